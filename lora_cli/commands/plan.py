"""`loracli plan`: everything a run would do, before it does it."""

import typer

from lora_cli.commands.arguments import AsJson, Overrides, RecipePath


def command(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show what a recipe comes to: model, modules, data, schedule, and why. Reads no weights.

    Example: loracli plan recipes/quickstart.yaml --set adapter.rank=32
    """
    from lora_cli.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides or ())

    from lora_cli.plan.make import make_plan

    run_plan = make_plan(loaded)
    if as_json:
        typer.echo(run_plan.to_json(), nl=False)
        return
    from lora_cli.console.plan import show_plan

    show_plan(run_plan)
