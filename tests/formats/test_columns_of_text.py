"""The formats whose columns hold plain text: each keeps all of it, and says what it lacks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.formats import (
    FORMATS,
    Conversation,
    Example,
    Message,
    Pair,
    PlainText,
    SourceTarget,
)
from tests.formats.rows import ANY_TEXT, SAID, problem_of


def talk(*texts: str) -> Conversation:
    roles = ["system"] * (len(texts) % 2) + ["user", "assistant"] * (len(texts) // 2)
    return Conversation(tuple(map(Message, roles, texts)))


@pytest.mark.parametrize(
    ("name", "row", "example"),
    [
        ("prompt_completion", {"prompt": " a\n", "completion": "\tb "}, Pair(" a\n", "\tb ")),
        ("prompt_completion", {"input": "a", "output": "b"}, Pair("a", "b")),
        ("prompt_completion", {"prompt": "a", "response": "b"}, Pair("a", "b")),
        ("text", {"text": "\n a "}, PlainText("\n a ")),
        ("text", {"content": "a"}, PlainText("a")),
        ("alpaca", {"instruction": "a", "output": "b"}, talk("a", "b")),
        ("alpaca", {"instruction": "a", "input": "", "output": "b"}, talk("a", "b")),
        ("alpaca", {"instruction": "a", "input": None, "output": "b"}, talk("a", "b")),
        ("alpaca", {"instruction": "a", "input": "i", "output": "b"}, talk("a\n\ni", "b")),
        ("alpaca", {"instruction": "a", "context": "c", "response": "b"}, talk("a\n\nc", "b")),
        (
            "alpaca",
            {"instruction": "a", "output": "b", "system": "s", "history": [["c", "d"]]},
            talk("s", "c", "d", "a", "b"),
        ),
        ("alpaca", {"instruction": "a", "output": "b", "history": []}, talk("a", "b")),
        ("alpaca", {"instruction": "a", "output": "b", "history": ""}, talk("a", "b")),
        ("question_answer_context", {"question": "a", "answer": "b"}, talk("a", "b")),
        ("question_answer_context", {"query": "a", "response": "b"}, talk("a", "b")),
        (
            "question_answer_context",
            {"context": "c", "question": "a", "answer": "b"},
            talk("c\n\na", "b"),
        ),
        ("source_target", {"source": "a ", "target": " b"}, SourceTarget("a ", " b")),
        ("source_target", {"document": "a", "summary": "b"}, SourceTarget("a", "b")),
        ("source_target", {"article": "a", "highlights": "b"}, SourceTarget("a", "b")),
    ],
)
def test_a_row_and_its_example(name: str, row: dict[str, Any], example: Example) -> None:
    assert FORMATS[name].fits(row)
    assert FORMATS[name].example(row) == example
    assert isinstance(example, FORMATS[name].kind)


def test_the_answer_is_what_is_learnt() -> None:
    assert FORMATS["prompt_completion"].example({"prompt": "a", "completion": " b"}).answer == " b"
    assert FORMATS["source_target"].example({"source": "a", "target": " b"}).answer == " b"
    assert FORMATS["text"].example({"text": "a"}).answer == ""


def texts_of(example: Example) -> list[str]:
    if isinstance(example, Conversation):
        return [message.content for message in example.messages]
    if isinstance(example, Pair):
        return [example.prompt, example.completion]
    assert isinstance(example, SourceTarget)
    return [example.source, example.target]


@pytest.mark.parametrize(
    "name", ["prompt_completion", "alpaca", "question_answer_context", "source_target"]
)
@given(data=st.data())
def test_no_text_is_lost_or_changed(name: str, data: st.DataObject) -> None:
    row_format = FORMATS[name]
    columns = [column for column in row_format.columns if column.name != "history"]
    row = {
        column.name: data.draw(ANY_TEXT if column.optional else SAID, column.name)
        for column in columns
    }
    said = texts_of(row_format.example(row))
    assert sum(map(len, said)) - sum(map(len, row.values())) in (0, 2), "a blank line is added"
    assert all(any(text in each for each in said) for text in row.values())


PAIRS = "column `history` must be a list of [question, answer] pairs"
ENTRY = " of column `history` is not a pair of texts: write [question, answer]"


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("prompt_completion", {"prompt": "a"}, "column `completion` is missing"),
        ("prompt_completion", {"prompt": "a", "completion": 3},
         "column `completion` holds a number, not text"),
        ("prompt_completion", {"input": " ", "output": "b"}, "column `input` is empty"),
        ("text", {"text": None}, "column `text` holds null, not text"),
        ("alpaca", {"instruction": "a", "output": ""}, "column `output` is empty"),
        ("alpaca", {"instruction": "a", "output": "b", "input": 3},
         "column `input` holds a number, not text"),
        ("alpaca", {"instruction": "a", "output": "b", "history": "c"}, PAIRS),
        ("alpaca", {"instruction": "a", "output": "b", "history": [["c", "d"], ["e"]]},
         f"entry 2{ENTRY}"),
        ("alpaca", {"instruction": "a", "output": "b", "history": [["c", " "]]}, f"entry 1{ENTRY}"),
        ("question_answer_context", {"problem": ["a"], "answer": "b"},
         "column `problem` holds a list, not text"),
        ("question_answer_context", {"question": "a", "answer": {"text": ["b"]}},
         "column `answer` holds a mapping, not text"),
        ("source_target", {"source": "a", "target": "\n"}, "column `target` is empty"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used(name: str, row: dict[str, Any], message: str) -> None:
    assert problem_of(name, row) == message


def test_a_translation_needs_to_be_told_its_direction() -> None:
    row = {"translation": {"en": "yes", "fr": "oui", "de": "ja"}}
    assert FORMATS["source_target"].fits(row)
    assert problem_of("source_target", row) == (
        "column `translation` holds several texts (en, fr, de): say which becomes which, such as "
        "`dataset.columns: {source: translation.en, target: translation.fr}`"
    )
    told = FORMATS["source_target"].with_columns(
        {"source": "translation.fr", "target": "translation.de"}
    )
    assert told.example(row) == SourceTarget("oui", "ja")


def test_a_translation_without_languages() -> None:
    message = problem_of("source_target", {"translation": {}})
    assert message.startswith("column `translation` holds several texts (none)")
