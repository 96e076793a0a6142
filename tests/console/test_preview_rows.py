"""Rows as they are drawn: marks where there is no colour, and nothing that is not seen."""

from __future__ import annotations

import re

import pytest

from lora_cli.console.preview_rows import LONGEST_SPAN, drawn
from lora_cli.data.preview_rows import Span
from tests.console.previews import span


def test_the_line_of_an_answer_is_green_only_where_it_is_learnt() -> None:
    text = drawn([span("read "), span("learnt", learnt=True)], marks=False)
    assert [(s.start, s.end, s.style) for s in text.spans if s.style] == [(5, 11, "bold green")]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([span("a", learnt=True), span("<e>", learnt=True, special=True)], "⟦a<e>⟧"),
        ([span("q"), span("a\n\n", learnt=True), span("q")], "q⟦a↵\n↵\n⟧q"),
        ([span("a", learnt=True), span("\n")], "⟦a⟧↵"),
        ([span("x", learnt=True, label="O"), span("y", learnt=True, label="B")], "⟦x⟧/O⟦y⟧/B"),
        ([span("x\ty\x1b[2J\u202e\r")], "x⇥y\\x1b[2J\\u202e\\r"),
        ([span("a\nb")], "a\nb"),
    ],
)
def test_what_is_drawn(spans: list[Span], expected: str) -> None:
    assert drawn(spans, marks=True).plain == expected


def test_a_very_long_span_keeps_its_beginning_and_its_end() -> None:
    text = drawn([span("b" + "x" * LONGEST_SPAN + "e", learnt=True)], marks=True).plain
    assert text.startswith("⟦bx")
    assert text.endswith("xe⟧")
    assert re.search(r"x … 402 characters … x", text)
