"""Which format a file is in, and on what evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_cli.data.detect import detect_format, unused_columns
from lora_cli.data.read import RawRow
from lora_cli.errors import PlanError

FILE = Path("rows.jsonl")
CHAT: dict[str, Any] = {"messages": []}
PAIR = {"prompt": "a", "completion": "b"}


def raw(*columns: dict[str, Any] | None) -> list[RawRow]:
    return [RawRow(line, row, "" if row else "bad") for line, row in enumerate(columns, 1)]


def problem_of(*columns: dict[str, Any] | None) -> str:
    with pytest.raises(PlanError) as caught:
        detect_format(FILE, raw(*columns))
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "name", "evidence"),
    [
        (CHAT, "messages", "the columns are `messages`"),
        (PAIR, "prompt_completion", "the columns are `prompt`, `completion`"),
        ({"id": 1, **PAIR}, "prompt_completion", "the columns are `id`, `prompt`, `completion`"),
    ],
)
def test_the_columns_tell_the_format(row: dict[str, Any], name: str, evidence: str) -> None:
    detected = detect_format(FILE, raw(row))
    assert (detected.format, detected.evidence) == (name, evidence)


def test_rows_that_fit_nothing_do_not_decide() -> None:
    assert detect_format(FILE, raw(None, {"note": 1}, CHAT)).format == "messages"


def test_no_format_fits() -> None:
    assert problem_of({"question": "a", "answer": "b"}) == (
        "rows.jsonl: the columns `question`, `answer` fit no format (formats and their columns: "
        "messages: messages; prompt_completion: completion, prompt)"
    )
    assert "the columns (none) fit no format" in problem_of({})


def test_a_row_that_fits_two_formats() -> None:
    assert problem_of({**CHAT, **PAIR}) == (
        "rows.jsonl: the rows fit more than one format: messages (line 1) and prompt_completion "
        "(line 1) (name one with `dataset.format`)"
    )


def test_rows_of_two_formats() -> None:
    assert "messages (line 1) and prompt_completion (line 3)" in problem_of(CHAT, CHAT, PAIR)


def test_columns_that_are_not_read_are_named_once() -> None:
    rows = raw({"id": 1, **PAIR}, None, {"source": 2, "id": 3, **PAIR})
    assert unused_columns("prompt_completion", rows) == ("id", "source")
    assert unused_columns("messages", raw(CHAT)) == ()
