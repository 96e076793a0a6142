"""One JSON document → rows: a list of mappings, or one mapping of columns to lists.

What users call `.json` is often JSONL, and is read as that. A document with broken syntax raises:
where one row is broken, nobody can say where the next one begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any

from lora_cli.data.readers.json_document import JsonDocument
from lora_cli.data.readers.json_values import (
    STRICT,
    half_character,
    holds_nul,
    row_of_value,
    syntax_in_words,
)
from lora_cli.data.readers.open_file import NUL, opened_text
from lora_cli.data.readers.raw_row import LONGEST_ROW, RawRow
from lora_cli.data.readers.read_jsonl import read_jsonl
from lora_cli.errors import PlanError, Where
from lora_cli.words import counted

LONGEST_TABLE = 4 * LONGEST_ROW
"""Characters of a mapping of columns, which is in memory as a whole."""
_FORMS = "a JSON file is a list of mappings, or one mapping of columns to lists"
_LENIENT = JSONDecoder(parse_int=str)
_not_utf8 = re.compile("[\udc80-\udcff]").search


class _IsJsonlError(Exception):
    """The file is no JSON document but one a line."""


def read_json(path: Path) -> Iterator[RawRow]:
    """Give the rows of a JSON file in order, numbered from 1: a document has no line a row.

    Raises:
        PlanError: the file cannot be read, is no JSON, or holds neither form.
    """
    try:
        yield from _rows(path)
    except _IsJsonlError:
        yield from read_jsonl(path)


def _rows(path: Path) -> Iterator[RawRow]:
    with opened_text(path) as file:
        document = JsonDocument(file)
        try:
            first = document.peek()
            if first == "[":
                yield from _list(document)
            elif first == "{":
                yield from _mapping(document)
            elif first:
                where = Where(str(path), document.line, document.column)
                raise PlanError("holds one value, not rows", where, _FORMS)
        except JSONDecodeError as error:
            raise _syntax_error(path, document, error) from error
        except ValueError as error:
            where = Where(str(path), document.line, document.column)
            raise PlanError(f"not JSON: {error}", where) from error
        except RecursionError as error:
            where = Where(str(path), document.line, document.column)
            message = "not JSON that can be read: it is nested too deeply"
            raise PlanError(message, where) from error


def _list(document: JsonDocument) -> Iterator[RawRow]:
    document.skip()
    following, number = document.peek(), 0
    while following != "]":
        number += 1
        yield _element(document, number)
        following = document.peek()
        if following == ",":
            document.skip()
            document.peek()
        elif following != "]":
            raise document.fail("Expecting ',' or ']' after a row")
    document.skip()
    _check_end(document)


def _element(document: JsonDocument, number: int) -> RawRow:
    """Return the next row; one that is JSON, but not as loracli takes it, has a reason."""
    place = f"line {document.line}, column {document.column}"
    try:
        value, source = document.take(STRICT)
    except JSONDecodeError:
        raise
    except ValueError as error:
        document.take(_LENIENT)
        return RawRow(number, None, f"not JSON: {error} (in the row at {place})")
    if holds_nul(source):
        return RawRow(number, None, f"{NUL} (in the row at {place})")
    if flaw := _flaw(value, source):
        return RawRow(number, None, f"not JSON: {flaw} (in the row at {place})")
    return row_of_value(number, value)


def _mapping(document: JsonDocument) -> Iterator[RawRow]:
    document.longest = LONGEST_TABLE
    try:
        value, source = document.take(STRICT)
    except JSONDecodeError as error:
        if _is_of_a_line(document, error):
            raise _IsJsonlError from error
        raise
    except ValueError as error:
        document.take(_LENIENT)
        if document.peek() == "{":
            raise _IsJsonlError from error
        raise
    if document.peek() == "{":
        raise _IsJsonlError
    _check_end(document)
    if flaw := _flaw(value, source) or (NUL if holds_nul(source) else ""):
        raise ValueError(flaw)
    yield from _table(value)


def _is_of_a_line(document: JsonDocument, error: JSONDecodeError) -> bool:
    """Return whether what is wrong is a broken first line of JSONL, for all that can be seen."""
    (line, column), rest = document.place_of(error), document.after(error)
    return bool(rest) and (line == document.line or (column == 1 and rest.startswith("{")))


def _table(columns: dict[str, Any]) -> Iterator[RawRow]:
    """Give the rows of a mapping of columns to lists; any other mapping is one row."""
    values = list(columns.values())
    if values and all(isinstance(value, list) for value in values):
        lengths = {name: len(value) for name, value in columns.items()}
        if len(set(lengths.values())) > 1:
            held = ", ".join(f"`{name}` {counted(rows, 'row')}" for name, rows in lengths.items())
            raise ValueError(f"the columns are of different lengths: {held}")
        for number, row in enumerate(zip(*values, strict=True), 1):
            yield RawRow(number, dict(zip(columns, row, strict=True)))
    elif values and all(isinstance(value, dict) and "0" in value for value in values):
        raise ValueError('pandas wrote columns of mappings: write it with orient="records"')
    else:
        yield RawRow(1, columns)


def _flaw(value: Any, source: str) -> str:
    """Return what is no character in a value's text; `source` is empty where nothing can be."""
    if _not_utf8(source):
        return "text that is not UTF-8"
    return half_character(value) if source else ""


def _check_end(document: JsonDocument) -> None:
    if document.peek():
        raise document.fail("Extra data")


def _syntax_error(path: Path, document: JsonDocument, error: JSONDecodeError) -> PlanError:
    where = Where(str(path), *document.place_of(error))
    if document.is_cut_off(error):
        return PlanError("the JSON is cut off: its end is missing", where, "write the file again")
    hint = "where the next row begins cannot be told; JSONL is read line by line"
    return PlanError(syntax_in_words(error), where, hint)
