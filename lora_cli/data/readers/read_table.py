"""CSV and TSV → rows of text columns, named by the first line or by the recipe.

CSV is RFC 4180: a field in quotes may hold commas, quotes (doubled) and line ends. In TSV a row is
a line and a quote is text; only a field that doubles its quotes is unquoted, for that is how
programs write what they quote.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from lora_cli.data.readers.open_file import flaw_of, opened_text, text_lines_of
from lora_cli.data.readers.raw_row import LONGEST_ROW, RawRow
from lora_cli.errors import PlanError, Where
from lora_cli.words import counted

Record = tuple[int, list[str], str]
"""The line in which it begins, its fields, and what is wrong with it."""
Names = Sequence[str]


def read_csv(path: Path, names: Names = ()) -> Iterator[RawRow]:
    """Give the rows of a CSV file in order; without `names` its first line holds them.

    Raises:
        PlanError: the file cannot be read, or its header does not name every column once.
    """
    with opened_text(path) as file:
        yield from _rows(path, _csv_records(path, text_lines_of(path, file), names), names)


def read_tsv(path: Path, names: Names = ()) -> Iterator[RawRow]:
    """Give the rows of a TSV file in order; without `names` its first line holds them.

    Raises:
        PlanError: as for CSV.
    """
    with opened_text(path) as file:
        yield from _rows(path, _tsv_records(text_lines_of(path, file)), names)


def _rows(path: Path, records: Iterator[Record], names: Names) -> Iterator[RawRow]:
    source = "the recipe's `columns`" if names else "the header"
    for line, fields, flaw in records:
        if not names:
            names = _header(Where(str(path), line), fields, flaw)
        elif flaw:
            yield RawRow(line, None, flaw)
        elif len(fields) != len(names):
            message = f"{counted(len(fields), 'field')}, but {source} names {len(names)}"
            yield RawRow(line, None, message)
        else:
            yield RawRow(line, dict(zip(names, fields, strict=True)))


def _header(where: Where, fields: Sequence[str], flaw: str) -> list[str]:
    """Return the names of the columns.

    Raises:
        PlanError: a name is missing or there twice, or the line is one of data.
    """
    names = [field.strip() for field in fields]
    if flaw:
        raise PlanError(f"the header cannot be read: {flaw}", where)
    numbers = [name for name in names if _is_number(name)]
    if numbers and len(numbers) < len(names):
        hint = f"name the columns in the recipe: `columns: [{', '.join(_invented(names))}]`"
        raise PlanError(f"the first line is no header: it holds `{numbers[0]}`", where, hint)
    if "" in names:
        message = f"column {names.index('') + 1} has no name in the header"
        raise PlanError(message, where, "pandas writes its index so: use `index=False`")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise PlanError(f"two columns are called `{twice[0]}`", where, "rename one of them")
    return names


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return name.lower() not in {"nan", "inf", "infinity"}


def _invented(names: Names) -> list[str]:
    """Return names for columns of data, as an example."""
    return ["text", "label"] if len(names) == 2 else [f"column_{n + 1}" for n in range(len(names))]


def _csv_records(path: Path, lines: Iterator[str], names: Names) -> Iterator[Record]:
    first = next(lines, "")
    flaws: list[str] = []
    csv.field_size_limit(LONGEST_ROW)  # the library's own is 128 KiB
    checked = _checked(chain([first], lines), flaws)
    reader = csv.reader(checked, delimiter="," if names else _delimiter(first), strict=True)
    while True:
        line = reader.line_num + 1
        flaws.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "limit" in str(error):
                message = f"a quoted field is not closed within {LONGEST_ROW >> 20} MB"
                raise PlanError(message, Where(str(path), line)) from error
            yield line, [], _broken_quote(line, reader.line_num, str(error))
            continue
        if fields:
            yield line, fields, flaws[0] if flaws else ""


def _checked(lines: Iterator[str], flaws: list[str]) -> Iterator[str]:
    for line in lines:
        if flaw := flaw_of(line)[0]:
            flaws.append(flaw)
        yield line


def _delimiter(header: str) -> str:
    """Return what separates the header's fields: a spreadsheet may write semicolons or tabs."""
    return next((mark for mark in ",;\t" if mark in header), ",")


def _broken_quote(first: int, last: int, message: str) -> str:
    reach = f"lines {first} to {last} are" if last > first else "the line is"
    if message == "unexpected end of data":
        return f"a quote is opened and never closed: {reach} lost"
    return f"text follows a closing quote: {reach} lost; a quote in a quoted field is doubled"


def _tsv_records(lines: Iterator[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        content = line.rstrip("\r\n")
        if content:
            yield number, [_unquoted(field) for field in content.split("\t")], flaw_of(line)[0]


def _unquoted(field: str) -> str:
    if len(field) < 4 or field[0] != '"' or field[-1] != '"':
        return field
    inner = field[1:-1]
    doubled = inner.replace('""', "")
    return inner.replace('""', '"') if doubled != inner and '"' not in doubled else field
