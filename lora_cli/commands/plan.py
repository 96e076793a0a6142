"""`loracli plan`: everything a run would do, before it does it."""

from lora_cli.commands.arguments import AsJson, Overrides, RecipePath


def command(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show what a recipe comes to: model, modules, data, schedule, and why. Reads no weights.

    Example: loracli plan recipes/quickstart.yaml --set adapter.rank=32
    """
    from lora_cli.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides or ())

    from lora_cli.console.plan import make_and_show_plan

    make_and_show_plan(loaded, as_json=as_json)
