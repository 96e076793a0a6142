"""Which row format a file is in, told from its columns, with the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_cli.data.read import RawRow
from lora_cli.errors import PlanError
from lora_cli.formats import FORMATS


@dataclass(frozen=True, slots=True)
class Detected:
    """A format's name, and why it is the one."""

    format: str
    evidence: str


def detect_format(file: Path, rows: Sequence[RawRow]) -> Detected:
    """Return the one format that fits rows of the file; at least one row must have columns.

    Raises:
        PlanError: no format fits any row, or several fit.
    """
    readable = [row for row in rows if row.columns is not None]
    fitting = {name: found for name in FORMATS if (found := _fitting(name, readable))}
    if len(fitting) == 1:
        name, found = next(iter(fitting.items()))
        return Detected(name, f"the columns are {_listing(found[0])}")
    if not fitting:
        message = f"the columns {_listing(readable[0])} fit no format"
        raise PlanError(message, str(file), f"formats and their columns: {_known_formats()}")
    places = " and ".join(f"{name} (line {found[0].line})" for name, found in fitting.items())
    message = f"the rows fit more than one format: {places}"
    raise PlanError(message, str(file), "name one with `dataset.format`")


def unused_columns(format_name: str, rows: Sequence[RawRow]) -> tuple[str, ...]:
    """Return the columns that rows have beside those of the format, in order of appearance."""
    seen = dict.fromkeys(column for row in rows for column in row.columns or ())
    return tuple(column for column in seen if column not in FORMATS[format_name].columns)


def _fitting(name: str, rows: Sequence[RawRow]) -> list[RawRow]:
    return [row for row in rows if FORMATS[name].columns <= (row.columns or {}).keys()]


def _listing(row: RawRow) -> str:
    return ", ".join(f"`{column}`" for column in row.columns or ()) or "(none)"


def _known_formats() -> str:
    return "; ".join(f"{name}: {', '.join(sorted(form.columns))}" for name, form in FORMATS.items())
