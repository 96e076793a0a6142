"""Which row format a file is in: as the recipe says, or told from its columns, with evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_cli.data.format_wish import FormatWish, Wish, unknown_names
from lora_cli.data.readers.read import RawRow
from lora_cli.errors import PlanError, Where
from lora_cli.formats import FORMATS, RowFormat, RowProblemError, build_format
from lora_cli.formats.row_format import Row

SAMPLE = 1000
"""Rows that are looked at; what a later row lacks is that row's own problem."""


@dataclass(frozen=True, slots=True)
class Detected:
    """A format, its name, and why it is the one."""

    format: str
    evidence: str
    row_format: RowFormat


def detect_format(file: Path, rows: Sequence[RawRow], wish: FormatWish | None = None) -> Detected:
    """Return the format that the recipe names, or the one that fits rows of the file.

    At least one row must have columns, unless a format is named.

    Raises:
        PlanError: no format fits any row, or several fit; the task cannot learn from it; the
            recipe names columns that no row has.
    """
    wish = wish or Wish()
    readable = [row for row in rows[:SAMPLE] if row.columns is not None]
    if readable and (problems := list(unknown_names(wish, [r.columns or {} for r in readable]))):
        raise PlanError.from_problems(problems)
    if wish.template:
        named = "`dataset.template` is given" if wish.format == "auto" else "named in the recipe"
        return _detected(build_format("template", wish.columns, wish.template), named, wish)
    if wish.format != "auto":
        named_format = build_format(wish.format, wish.columns)
        _check_columns(file, named_format, readable, wish)
        return _detected(named_format, "named in the recipe", wish)
    row_format, row = _only_format(file, readable, wish)
    detected = _detected(row_format, f"the columns are {_listing(row.columns or {})}", wish)
    _check_columns(file, row_format, [row], wish)
    return detected


def unused_columns(row_format: RowFormat, columns: Iterable[str]) -> tuple[str, ...]:
    """Return those of a file's columns that the format does not read, in order."""
    row = dict.fromkeys(columns)
    used = {name for names in row_format.candidates(row).values() for name in names}
    used.update(name.partition(".")[0] for name in row_format.renamed.values())
    return tuple(name for name in row if name not in used)


def _detected(row_format: RowFormat, evidence: str, wish: FormatWish) -> Detected:
    if row_format.kind not in wish.kinds:
        taken = [name for name, each in FORMATS.items() if each.kind in wish.kinds]
        message = f"the task cannot learn from rows of the format {row_format.name}"
        hint = f"formats that it takes: {', '.join(taken)}; or name another `task`"
        raise PlanError(message, wish.places.get("format", Where()), hint)
    return Detected(row_format.name, evidence, row_format)


def _only_format(file: Path, rows: Sequence[RawRow], wish: FormatWish) -> tuple[RowFormat, RawRow]:
    """Return the one format that fits rows and that the task takes, and the first such row."""
    formats = [
        each.with_columns(wish.columns)
        for each in FORMATS.values()
        if wish.columns.keys() <= {column.name for column in each.columns}
    ]
    fitting: dict[str, tuple[RowFormat, RawRow]] = {}
    for row in rows:
        for each in _closest_fitting(row.columns or {}, formats):
            fitting.setdefault(each.name, (each, row))
    taken = {name: found for name, found in fitting.items() if found[0].kind in wish.kinds}
    if len(taken) == 1:
        return next(iter(taken.values()))
    if not taken:
        raise _no_format(file, rows[0], list(fitting.values()), wish)
    places = " and ".join(f"{name} (line {row.line})" for name, (_, row) in taken.items())
    lines = " or ".join(f"`format: {name}`" for name in taken)
    message = f"the rows fit more than one format: {places}"
    raise PlanError(message, str(file), f"write {lines} under `dataset`")


def _closest_fitting(row: Row, formats: Sequence[RowFormat]) -> list[RowFormat]:
    """Return the formats that fit a row, less those that read only some of another's columns."""
    fitting = [(each, _columns_of(each, row)) for each in formats if each.fits(row)]
    return [each for each, own in fitting if not any(own < other for _, other in fitting)]


def _columns_of(row_format: RowFormat, row: Row) -> frozenset[str]:
    return frozenset(name for names in row_format.candidates(row).values() for name in names)


def _no_format(
    file: Path, row: RawRow, others: Sequence[tuple[RowFormat, RawRow]], wish: FormatWish
) -> PlanError:
    """Return what to say where no format fits that the task takes; `others` fit other tasks."""
    kinds = [each for each in FORMATS.values() if each.kind in wish.kinds]
    if others:
        row_format, row = others[0]
        own = sorted(_columns_of(row_format, row.columns or {}))
        columns = ", ".join(f"`{name}`" for name in own)
        message = f"the columns {columns} are {row_format.name}, which this task does not take"
        hint = "name another `task`, one of the formats with `dataset.format`, or write a "
        hint += f"`dataset.template`; this task takes: {', '.join(each.name for each in kinds)}"
        return PlanError(message, str(file), hint)
    message = f"the columns {_listing(row.columns or {})} fit no format"
    if other_case := _in_other_case(row.columns or {}, kinds):
        hint = f"they differ in case alone: write `columns: {{{other_case}}}` under `dataset`"
        return PlanError(message, str(file), hint)
    known = "; ".join(f"{each.name}: {', '.join(each.required)}" for each in kinds)
    hint = "say which is which with `dataset.columns`, or write a `dataset.template`; formats and "
    return PlanError(message, str(file), f"{hint}their columns: {known}")


def _in_other_case(row: Row, formats: Sequence[RowFormat]) -> str:
    """Return the columns of a format that the row has in upper case, as a recipe names them."""
    written = {name.lower(): name for name in row}
    fitting = _closest_fitting({name.lower(): value for name, value in row.items()}, formats)
    found = fitting[0].candidates(dict.fromkeys(written)) if fitting else {}
    return ", ".join(f"{column}: {written[names[0]]}" for column, names in found.items())


def _check_columns(
    file: Path, row_format: RowFormat, rows: Sequence[RawRow], wish: FormatWish
) -> None:
    """Refuse a format of which no row has the columns, or that could read two for one."""
    if not rows:
        return
    at_format = wish.places.get("format", Where(str(file)))
    fitting = [row.columns for row in rows if row.columns and row_format.fits(row.columns)]
    if not fitting:
        lacking = [row_format.candidates(row.columns or {}) for row in rows]
        missing = [
            name for name in row_format.required if not any(name in found for found in lacking)
        ]
        if missing:
            listing = ", ".join(f"`{name}`" for name in missing)
            message = f"no row has the {'column' if len(missing) == 1 else 'columns'} {listing} "
            message += f"of the format {row_format.name}"
            line = ", ".join(f"{name}: …" for name in missing)
            hint = f"the columns are {_listing(rows[0].columns or {})}: say which is which with "
            raise PlanError(message, at_format, f"{hint}`dataset.columns: {{{line}}}`")
        return
    try:
        row_format.found(fitting[0])
    except RowProblemError as problem:
        raise PlanError(str(problem), at_format) from problem


def _listing(row: Row) -> str:
    return ", ".join(f"`{column}`" for column in row) or "(none)"
