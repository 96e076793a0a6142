"""Where a recipe says how its rows are laid out: for errors that only the rows can show."""

from __future__ import annotations

from lora_cli.errors import Where
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.recipe.source import KeyPath


def format_places(loaded: LoadedRecipe, index: int) -> dict[str, Where]:
    """Return the places of a data set's format: `format`, `columns.prompt`, `template.text`.

    What the recipe does not say stands where it names the data set.
    """
    source, section = loaded.source, loaded.recipe.dataset[index]
    listed = source.wrote(("dataset", index))
    key: KeyPath = ("dataset", index) if listed else ("dataset",)
    inside: list[KeyPath] = [("format",)]
    inside += [("columns", name) for name in section.renamed_columns]
    inside += [("template", part) for part in section.template_parts]
    return {".".join(map(str, path)): source.of_value((*key, *path)) for path in inside}
