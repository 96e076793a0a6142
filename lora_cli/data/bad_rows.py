"""Rows that cannot be used → problems: the first ten with their places, the rest counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

from lora_cli.data.readers.open_file import lines_of, opened
from lora_cli.data.readers.read import kind_of_file
from lora_cli.errors import Problem, Where
from lora_cli.facts.dataset import DroppedRow, DroppedRows
from lora_cli.words import counted

SHOWN_BAD_ROWS = 10


def row_problems(rows: Sequence[tuple[Where, str]], hint: str, count: int = 0) -> list[Problem]:
    """Return the first ten problems of rows, and the count of the rest; the last has the hint.

    `count` says how many rows there are, where `rows` are only the first of them.
    """
    problems = [Problem(where, reason) for where, reason in rows[:SHOWN_BAD_ROWS]]
    rest = max(count, len(rows)) - SHOWN_BAD_ROWS
    if rest > 0:
        message = f"{counted(rest, 'more row')} cannot be used"
        problems.append(Problem(Where(rows[0][0].file), message, count=rest))
    return [*problems[:-1], replace(problems[-1], hint=hint)]


def bad_rows(dropped: DroppedRows, on_bad_row: Literal["error", "skip"]) -> list[Problem]:
    """Return the problems of rows that cannot be used, where that stops the plan."""
    first = Path(dropped.first[0].file)
    if _opens_a_mapping(dropped.first[0]):
        where = Where(dropped.first[0].file, dropped.first[0].line)
        message = "one JSON value over several lines"
        other = "write a list" if kind_of_file(first) == ".json" else "call it .json"
        return [Problem(where, message, f"{other}, or write one row a line")]
    hint = "mend them, or leave them out with `on_bad_row: skip` under `dataset`"
    if on_bad_row == "skip":
        hint = "no row is left: all were dropped"
    elif kind_of_file(first) in (".jsonl", ".ndjson") and _begins_a_list(first):
        hint = "the file is one JSON list: call it .json, or write one mapping a line"
    elif kind_of_file(first) == ".tsv" and _opens_a_quote(dropped.first[0]):
        hint = "a quote is text in TSV; to have quoted tabs and line ends read, call the file .csv"
    places = [(Where(row.file, row.line, row.column), row.reason) for row in dropped.first]
    return row_problems(places, hint, dropped.count)


def _opens_a_mapping(row: DroppedRow) -> bool:
    """Return whether the row is the first line of a JSON mapping written over several."""
    file = Path(row.file)
    if kind_of_file(file) not in (".jsonl", ".ndjson", ".json") or "not JSON" not in row.reason:
        return False
    return _line_of(row).strip() == b"{"


def _opens_a_quote(row: DroppedRow) -> bool:
    """Return whether a field of the row is quoted and goes on in the next field or line."""
    fields = _line_of(row).rstrip(b"\r\n").split(b"\t")
    return any(field.startswith(b'"') and field.count(b'"') % 2 for field in fields)


def _line_of(row: DroppedRow) -> bytes:
    with opened(Path(row.file)) as content:
        return next(islice(lines_of(content), row.line - 1, None), b"")


def _begins_a_list(file: Path) -> bool:
    with opened(file) as content:
        return content.read(64).lstrip().startswith(b"[")
