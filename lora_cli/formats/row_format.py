"""What every row format is: the columns that it is told by, and how a row of them is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lora_cli.formats.examples import Example

Row = Mapping[str, Any]
_MISSING = object()


class RowProblemError(ValueError):
    """This row cannot be used; the text says why, the caller knows file and line."""


class RowTooLongError(RowProblemError):
    """This row is as it should be, but nothing of what it teaches fits into the longest length.

    It is left out and told, and stops nothing.
    """


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a format reads."""

    name: str
    aliases: tuple[str, ...] = ()
    """What files call it too."""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Cells:
    """A row by the format's names for its columns; what is wrong is said by the file's names."""

    row: Row
    found: Mapping[str, str]
    """The file's column for each of the format's, as far as the row has them."""

    def value(self, column: str) -> Any:
        """Return what stands in a column; None where the row has no such column."""
        return value_at(self.row, self.found[column]) if column in self.found else None

    def name(self, column: str) -> str:
        """Return what the file calls a column."""
        return self.found.get(column, column)

    def text(self, column: str) -> str:
        """Return a column that must hold text that is not blank."""
        return text_column(self.row, self.name(column))

    def optional_text(self, column: str) -> str:
        """Return a column's text as it stands; empty where it is missing or null."""
        value = self.value(column)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise _not_text(self.name(column), value)
        return value


def _anything(_cells: Cells) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class RowFormat:
    """One way to lay out a row."""

    name: str
    kind: type[Example]
    """What its rows become."""
    columns: tuple[Column, ...]
    read: Callable[[Cells], Example]
    """A row's cells → its example; raises RowProblemError."""
    recognises: Callable[[Cells], bool] = _anything
    """Whether a row that has the columns holds in them what the format expects."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """The recipe's own names: a column of the format → the file's column."""

    def with_columns(self, renamed: Mapping[str, str]) -> RowFormat:
        """Return the format for a file whose columns are called so."""
        return replace(self, renamed=dict(renamed))

    def example(self, row: Row) -> Example:
        """Return the row as an example.

        Raises:
            RowProblemError: a column is missing, empty or of the wrong type.
        """
        found = self.found(row)
        missing = next((name for name in self.required if name not in found), None)
        if missing is not None:
            raise RowProblemError(f"column `{self.renamed.get(missing, missing)}` is missing")
        return self.read(Cells(row, found))

    def fits(self, row: Row) -> bool:
        """Return whether the row has the format's columns, and in them what it expects."""
        candidates = self.candidates(row)
        if not all(name in candidates for name in self.required):
            return False
        return self.recognises(Cells(row, {name: each[0] for name, each in candidates.items()}))

    def found(self, row: Row) -> dict[str, str]:
        """Return the row's column for each of the format's.

        Raises:
            RowProblemError: several columns could be the same one.
        """
        candidates = self.candidates(row)
        for name, several in candidates.items():
            if len(several) > 1:
                listing = " and ".join(f"`{each}`" for each in several)
                lines = " or ".join(f"`{{{name}: {each}}}`" for each in several)
                message = f"the columns {listing} could each be the `{name}` of {self.name}"
                raise RowProblemError(f"{message}: name one with `dataset.columns`, {lines}")
        return {name: each[0] for name, each in candidates.items()}

    def candidates(self, row: Row) -> dict[str, tuple[str, ...]]:
        """Return the row's columns that could be each of the format's, left out where none is."""
        found = {column.name: self._candidates(row, column) for column in self.columns}
        return {name: columns for name, columns in found.items() if columns}

    @property
    def required(self) -> tuple[str, ...]:
        """Return the columns without which no row can be read."""
        return tuple(column.name for column in self.columns if not column.optional)

    def _candidates(self, row: Row, column: Column) -> tuple[str, ...]:
        """Return the column that the recipe names; else that of the name; else its aliases."""
        named = self.renamed.get(column.name)
        if named is not None:
            return (named,) if value_at(row, named) is not _MISSING else ()
        taken = self.renamed.values()
        if column.name in row and column.name not in taken:
            return (column.name,)
        return tuple(alias for alias in column.aliases if alias in row and alias not in taken)


def value_at(row: Row, column: str) -> Any:
    """Return what stands in a column, or in a mapping's field: `translation.en`."""
    if column in row or "." not in column:
        return row.get(column, _MISSING)
    first, _, rest = column.partition(".")
    inner = row.get(first)
    return value_at(inner, rest) if isinstance(inner, Mapping) else _MISSING


def has_column(row: Row, column: str) -> bool:
    """Return whether a row has a column, or the field of a mapping that `column` names."""
    return value_at(row, column) is not _MISSING


def text_column(row: Row, column: str) -> str:
    """Return a column that must hold text that is not blank."""
    value = value_at(row, column)
    if value is _MISSING:
        raise RowProblemError(f"column `{column}` is missing")
    if not isinstance(value, str):
        raise _not_text(column, value)
    if not value.strip():
        raise RowProblemError(f"column `{column}` is empty")
    return value


def _not_text(column: str, value: Any) -> RowProblemError:
    return RowProblemError(f"column `{column}` holds {kind_of(value)}, not text")


def kind_of(value: Any) -> str:
    """Return what a value is, in words; those that JSON has not (a date) by their type."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", bytes: "bytes"}
    names |= dict.fromkeys((int, float), "a number")
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
