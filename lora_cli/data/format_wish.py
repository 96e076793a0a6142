"""What a recipe says of the format of rows, checked against the columns that are there.

What it names and no row has is refused at the recipe's own line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lora_cli.errors import Problem, Where
from lora_cli.formats import Conversation, Example, Pair, PlainText
from lora_cli.formats.row_format import Row, has_column
from lora_cli.formats.template import columns_read
from lora_cli.recipe.suggest import closest

CAUSAL_LM = (Conversation, Pair, PlainText)
"""What a causal language model learns from."""


class FormatWish(Protocol):
    """What a recipe says of the format of rows, and what its task can learn from."""

    @property
    def format(self) -> str:
        """Return a format's name, or `auto`."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Return the file's columns by the format's names, as far as the recipe names them."""

    @property
    def template(self) -> Mapping[str, str]:
        """Return the parts of a template; none, and there is no template."""

    @property
    def kinds(self) -> Sequence[type[Example]]:
        """Return what the task takes."""

    @property
    def places(self) -> Mapping[str, Where]:
        """Return where the recipe says it: `format`, `columns.prompt`, `template.text`."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A recipe that says nothing of the format, unless it is told to."""

    format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    template: Mapping[str, str] = field(default_factory=dict)
    kinds: Sequence[type[Example]] = CAUSAL_LM
    places: Mapping[str, Where] = field(default_factory=dict)


def unknown_names(wish: FormatWish, rows: Sequence[Row]) -> Iterator[Problem]:
    """Give the columns that the recipe names, or its template needs, and no row has."""
    yield from _in_columns(wish, rows)
    yield from _in_template(wish, rows)


def _in_columns(wish: FormatWish, rows: Sequence[Row]) -> Iterator[Problem]:
    for name, column in wish.columns.items():
        if not any(has_column(row, column) for row in rows):
            where = wish.places.get(f"columns.{name}", Where())
            hint = _meant(column, rows)
            if any(name in row for row in rows):
                hint = f"is it the other way round? The format's name comes first: `{column}: …`"
            yield Problem(where, f"no row has a column `{column}`", hint)


def _in_template(wish: FormatWish, rows: Sequence[Row]) -> Iterator[Problem]:
    for part, text in wish.template.items():
        for name, guarded in columns_read(text).items():
            named = name in wish.columns or any(has_column(row, name) for row in rows)
            if not guarded and not named:
                where = wish.places.get(f"template.{part}", Where())
                message = f"the template reads `{name}`, and no row has such a column"
                yield Problem(where, message, _meant(name, rows))


def _meant(column: str, rows: Sequence[Row]) -> str:
    """Return the nearest column of the rows, or all of them, the fields of mappings included."""
    names = list(dict.fromkeys(name for row in rows for name in _names(row)))
    inside = next((name for name in names if name.endswith(f".{column}")), None)
    near = inside or closest(column, names)
    listing = ", ".join(f"`{name}`" for name in names) or "none"
    return f"did you mean `{near}`?" if near else f"columns there are: {listing}"


def _names(row: Row) -> Iterator[str]:
    for name, value in row.items():
        yield name
        if isinstance(value, Mapping):
            yield from (f"{name}.{key}" for key in value)
