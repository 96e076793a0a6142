"""`loracli preview`: rows as the model will see them, and what is wrong with the data."""

from pathlib import Path
from typing import Annotated

import typer

from lora_cli.commands.arguments import AsJson, Overrides, RecipePath


def _checked_page(page: Path | None) -> Path | None:
    if page is not None and page.is_dir():
        raise typer.BadParameter(f"{page} is a folder; name a file, such as {page}/preview.html")
    if page is not None and not page.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {page.parent}")
    return page


def command(
    recipe: RecipePath,
    *,
    rows: Annotated[
        int, typer.Option("--rows", min=0, help="How many rows, or packs of rows, to show.")
    ] = 3,
    overrides: Overrides = None,
    as_json: AsJson = False,
    page: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            callback=_checked_page,
            help="Write a page for a browser too; it needs nothing but itself.",
        ),
    ] = None,
) -> None:
    """Show rows as the model will see them: what is trained on, dropped, cut, said twice.

    Trains nothing and reads no weights.

    Example: loracli preview recipes/quickstart.yaml --rows 5 --html preview.html
    """
    from lora_cli.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides or ())

    from lora_cli.console.preview import make_and_show_preview

    make_and_show_preview(loaded, rows=rows, as_json=as_json, page=page)
