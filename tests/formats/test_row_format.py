"""Columns of text, and the family of formats."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from lora_cli.formats import (
    FORMATS,
    Conversation,
    FormatName,
    Message,
    Pair,
    RowProblemError,
)
from lora_cli.formats.row_format import kind_of, text_column

PAIR = FORMATS["prompt_completion"]


def test_a_pair_is_taken_as_it_stands_white_space_included() -> None:
    example = PAIR.example({"prompt": " a\n", "completion": "\tb ", "id": 3})
    assert example == Pair(prompt=" a\n", completion="\tb ")
    assert example.answer == "\tb "


def test_the_answer_of_a_conversation_is_its_first() -> None:
    turns = [Message("user", "a"), Message("assistant", "b")]
    assert (
        Conversation(messages=(*turns, Message("user", "c"), Message("assistant", "d"))).answer
        == "b"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "column `text` holds a number, not text"),
        (None, "column `text` holds null, not text"),
        (["a"], "column `text` holds a list, not text"),
        ({"a": 1}, "column `text` holds a mapping, not text"),
        (False, "column `text` holds true or false, not text"),
        ("", "column `text` is empty"),
        (" \n\t", "column `text` is empty"),
    ],
)
def test_a_column_that_is_no_text(value: Any, message: str) -> None:
    with pytest.raises(RowProblemError) as caught:
        text_column({"text": value}, "text")
    assert str(caught.value) == message


@pytest.mark.parametrize("missing", ["prompt", "completion"])
def test_a_pair_needs_both_columns(missing: str) -> None:
    row = {"prompt": "a", "completion": "b"}
    del row[missing]
    with pytest.raises(RowProblemError, match=f"column `{missing}` is missing"):
        PAIR.example(row)


def test_text_is_called_text() -> None:
    assert kind_of("x") == "text"


def test_every_format_can_be_named_and_is_told_by_its_columns() -> None:
    assert set(get_args(FormatName)) == {"auto", *FORMATS}
    columns = [frozenset(form.columns) for form in FORMATS.values()]
    assert len(set(columns)) == len(columns)
    for one in columns:
        assert sum(one <= other for other in columns) == 1, "one format's columns hold another's"
