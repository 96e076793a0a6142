"""`loracli train`: a recipe becomes an adapter."""

from typing import Annotated

import typer

from lora_cli.commands.arguments import Overrides, RecipePath


def command(
    recipe: RecipePath,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the output folder.")
    ] = False,
) -> None:
    """Train an adapter as the recipe says, and write the run directory.

    Example: loracli train recipes/quickstart.yaml --set training.epochs=1
    """
    from lora_cli.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides or ())

    from lora_cli.console.train import train

    train(loaded, resume=resume, overwrite=overwrite)
