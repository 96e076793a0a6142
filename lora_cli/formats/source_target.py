"""Rows of a text and what it becomes: a translation, a summary."""

from __future__ import annotations

from collections.abc import Mapping

from lora_cli.formats.examples import SourceTarget
from lora_cli.formats.row_format import Cells, Column, RowFormat, RowProblemError


def _source_and_target(cells: Cells) -> SourceTarget:
    for column in ("source", "target"):
        _check_language(cells, column)
    return SourceTarget(source=cells.text("source"), target=cells.text("target"))


def _check_language(cells: Cells, column: str) -> None:
    """Refuse a mapping of languages of which the recipe does not name two: it has no order."""
    value, name = cells.value(column), cells.name(column)
    if isinstance(value, Mapping):
        languages = [str(key) for key in value]
        listing = ", ".join(languages) or "none"
        one, other = ([*languages, "…", "…"])[:2]
        line = f"`dataset.columns: {{source: {name}.{one}, target: {name}.{other}}}`"
        message = f"column `{name}` holds several texts ({listing})"
        raise RowProblemError(f"{message}: say which becomes which, such as {line}")


FORMAT = RowFormat(
    name="source_target",
    kind=SourceTarget,
    columns=(
        Column("source", ("document", "article", "dialogue", "translation")),
        Column("target", ("summary", "highlights", "translation")),
    ),
    read=_source_and_target,
)
"""`{"source": …, "target": …}`, or a `translation` whose languages the recipe names."""
