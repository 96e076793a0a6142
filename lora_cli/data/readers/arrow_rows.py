"""Arrow's record batches → rows: what Parquet and Arrow files have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lora_cli.data.readers.open_file import ARROW_INSTALL, check_signature, unreadable
from lora_cli.data.readers.raw_row import RawRow
from lora_cli.errors import MissingDependencyError, PlanError
from lora_cli.words import reason_of

BATCH_ROWS = 256
"""Rows that are Python values at once."""


@contextmanager
def reading(path: Path, kind: str) -> Iterator[Any]:
    """Give the package pyarrow to read a file with; what it says against the file is an error.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        PlanError: the file cannot be opened, or is not of this kind.
    """
    try:
        import pyarrow
    except ImportError as error:
        message = f"reading {kind} needs the package pyarrow"
        raise MissingDependencyError(message, str(path), ARROW_INSTALL) from error
    try:
        with path.open("rb") as file:
            check_signature(path, file.read(64), kind)
        yield pyarrow
    except OSError as error:
        if error.errno is not None:
            raise unreadable(path, error) from error
        raise _broken(path, kind, error) from error
    except pyarrow.ArrowException as error:
        raise _broken(path, kind, error) from error


def rows_of(path: Path, batches: Iterable[Any]) -> Iterator[RawRow]:
    """Give the rows of record batches, numbered from 1.

    A value without a place in JSON (bytes, dates, decimals) comes as Python has it, and the row
    format says if it needs another. NaN is no number here either: it is read as null.

    Raises:
        PlanError: two columns have the same name.
    """
    first = 1
    for batch in batches:
        names = batch.schema.names
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise PlanError(f"two columns are called `{twice[0]}`", str(path), "rename one of them")
        for start in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(start, BATCH_ROWS)
            yield from _rows(first + start, names, [_without_nan(c) for c in part.columns])
        first += batch.num_rows


def _broken(path: Path, kind: str, error: Exception) -> PlanError:
    message = f"is no {kind} file, or a broken one: {reason_of(error)}"
    return PlanError(message, str(path), "copy or download it again")


def _without_nan(column: Any) -> Any:
    import pyarrow
    import pyarrow.compute

    if not pyarrow.types.is_floating(column.type):
        return column
    return pyarrow.compute.if_else(pyarrow.compute.is_nan(column), None, column)


def _rows(first: int, names: list[str], columns: list[Any]) -> Iterator[RawRow]:
    try:
        values = [column.to_pylist(maps_as_pydicts="strict") for column in columns]
    except (ValueError, OverflowError, KeyError):
        yield from _rows_one_by_one(first, names, columns)
        return
    for number, row in enumerate(zip(*values, strict=True), first):
        yield RawRow(number, dict(zip(names, row, strict=True)))


def _rows_one_by_one(first: int, names: list[str], columns: list[Any]) -> Iterator[RawRow]:
    """Give the rows of columns that hold a value for which Python has none."""
    for index in range(len(columns[0])):
        row, reason = dict[str, Any](), ""
        for name, column in zip(names, columns, strict=True):
            try:
                row[name] = column[index].as_py(maps_as_pydicts="strict")
            except (ValueError, OverflowError, KeyError) as error:
                reason = f"column `{name}` ({column.type}) cannot be read: {reason_of(error)}"
        yield RawRow(first + index, None if reason else row, reason)
