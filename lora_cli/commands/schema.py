"""`loracli schema`: the recipe's JSON Schema."""

import typer


def command() -> None:
    """Print the recipe's JSON Schema, for editors and for programs.

    Example: loracli schema > recipe.schema.json
    """
    from lora_cli.recipe.json_schema import recipe_json_schema

    typer.echo(recipe_json_schema(), nl=False)
