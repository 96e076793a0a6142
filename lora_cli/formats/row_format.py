"""What every row format answers: is this row mine, and what does it say."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Protocol

from lora_cli.formats.examples import Example

Row = Mapping[str, Any]


class RowProblemError(ValueError):
    """This row cannot be used; the text says why, the caller knows file and line."""


class RowFormat(Protocol):
    """One way to lay out a row."""

    @property
    def columns(self) -> Set[str]:
        """Return the columns whose presence identifies the format."""

    def example(self, row: Row) -> Example:
        """Return the row as an example.

        Raises:
            RowProblemError: a column is missing, empty or of the wrong type.
        """


def text_column(row: Row, column: str) -> str:
    """Return a column that must hold text that is not blank."""
    if column not in row:
        raise RowProblemError(f"column `{column}` is missing")
    value = row[column]
    if not isinstance(value, str):
        raise RowProblemError(f"column `{column}` holds {kind_of(value)}, not text")
    if not value.strip():
        raise RowProblemError(f"column `{column}` is empty")
    return value


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
