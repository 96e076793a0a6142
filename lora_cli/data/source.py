"""One file of rows → tokenized rows, every row counted: kept, or dropped with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from lora_cli.data.detect import Detected, detect_format, unused_columns
from lora_cli.data.read import BYTE_ORDER_MARK, RawRow, read_jsonl
from lora_cli.data.tokenize import TokenizedRow, Tokenizer
from lora_cli.errors import PlanError, Problem, Where
from lora_cli.facts.dataset import DroppedRow, SourceFacts
from lora_cli.files import sha256_of_file
from lora_cli.formats import FORMATS, Example, FormatName, RowProblemError
from lora_cli.words import counted

SHOWN_BAD_ROWS = 10


@dataclass(frozen=True, slots=True)
class RowSource:
    """One file of rows and how to read it; all values final but `format`, which may be `auto`."""

    file: Path
    format: FormatName = "auto"
    max_rows: int | None = None
    system_prompt: str | None = None
    on_bad_row: Literal["error", "skip"] = "error"


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is used: its tokens, the example they came from, and where that stands."""

    tokens: TokenizedRow
    example: Example
    file: str = ""
    line: int = 0


def load_source(source: RowSource, tokenizer: Tokenizer) -> tuple[list[Row], SourceFacts]:
    """Return the rows of a file that can be used, at least one, and the account of all its rows.

    Raises:
        PlanError: the file cannot be read, no format fits, the chat template is broken, a row is
            bad and the source says `error`, or no row is left.
    """
    raw = _read(source)
    detected = _format_of(source, raw)
    if detected.format == "messages" and not tokenizer.has_chat_template:
        message = "holds conversations, but the model's tokenizer has no chat template"
        hint = "take the instruct version of the model, or rows of `prompt` and `completion`"
        raise PlanError(message, str(source.file), hint)
    kept, dropped = _tokenize(raw, source, detected.format, tokenizer)
    if dropped and (source.on_bad_row == "error" or not kept):
        raise PlanError.from_problems(_bad_rows(source, dropped))
    facts = SourceFacts(
        file=str(source.file),
        sha256=sha256_of_file(source.file),
        format=detected.format,
        evidence=detected.evidence,
        rows=len(raw),
        kept=len(kept),
        dropped=tuple(dropped),
        unused_columns=unused_columns(detected.format, raw),
    )
    return kept, facts


def row_problems(rows: Sequence[tuple[Where, str]], hint: str) -> list[Problem]:
    """Return the first ten problems of rows, and the count of the rest; the last has the hint."""
    problems = [Problem(where, reason) for where, reason in rows[:SHOWN_BAD_ROWS]]
    rest = len(rows) - SHOWN_BAD_ROWS
    if rest > 0:
        message = f"{counted(rest, 'more row')} cannot be used"
        problems.append(Problem(Where(rows[0][0].file), message, count=rest))
    return [*problems[:-1], replace(problems[-1], hint=hint)]


def _read(source: RowSource) -> list[RawRow]:
    try:
        raw = list(islice(read_jsonl(source.file), source.max_rows))
    except OSError as error:
        reason = error.strerror or str(error)
        raise PlanError(f"cannot be read: {reason}", str(source.file)) from error
    if not raw:
        raise PlanError("holds no rows", str(source.file), "a row is one JSON mapping a line")
    return raw


def _format_of(source: RowSource, raw: Sequence[RawRow]) -> Detected:
    if source.format != "auto":
        return Detected(source.format, "named in the recipe")
    if all(row.columns is None for row in raw):
        unreadable = [_dropped(source, row, row.reason) for row in raw]
        raise PlanError.from_problems(_bad_rows(source, unreadable))
    return detect_format(source.file, raw)


def _tokenize(
    raw: Sequence[RawRow], source: RowSource, format_name: str, tokenizer: Tokenizer
) -> tuple[list[Row], list[DroppedRow]]:
    row_format = FORMATS[format_name]
    kept, dropped = [], []
    for row in raw:
        try:
            if row.columns is None:
                raise RowProblemError(row.reason)
            example = row_format.example(row.columns)
            tokens = tokenizer.tokenize(example, source.system_prompt)
            kept.append(Row(tokens, example, str(source.file), row.line))
        except RowProblemError as problem:
            dropped.append(_dropped(source, row, str(problem)))
    return kept, dropped


def _dropped(source: RowSource, row: RawRow, reason: str) -> DroppedRow:
    return DroppedRow(str(source.file), row.line, reason, row.column)


def _bad_rows(source: RowSource, dropped: Sequence[DroppedRow]) -> list[Problem]:
    """Return the problems of rows that stop the plan."""
    hint = "mend them, or leave them out with `on_bad_row: skip` under `dataset`"
    if source.on_bad_row == "skip":
        hint = "no row is left: all were dropped"
    if _begins_a_list(source.file):
        hint = "the file is one JSON list: write one mapping a line, without brackets and commas"
    places = [(Where(row.file, row.line, row.column), row.reason) for row in dropped]
    return row_problems(places, hint)


def _begins_a_list(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(64).removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"[")
