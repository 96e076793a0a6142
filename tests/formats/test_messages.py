"""Rows of conversations in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lora_cli.formats import FORMATS, Conversation, Message
from tests.formats.rows import problem_of

FORMAT = FORMATS["messages"]
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": " b"}]
TALK = (Message("user", "a"), Message("assistant", " b"))
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


@pytest.mark.parametrize("column", ["messages", "conversations", "conversation"])
def test_a_conversation_goes_by_three_names(column: str) -> None:
    assert FORMAT.fits({column: TURNS})
    assert FORMAT.example({column: TURNS}) == Conversation(TALK)


@pytest.mark.parametrize("as_text", [False, True])
def test_tools_stand_beside_it_as_a_list_or_as_json_text(as_text: bool) -> None:
    row: dict[str, Any] = {"messages": TURNS, "tools": [TOOL]}
    if as_text:
        row = {column: json.dumps(value) for column, value in row.items()}
    assert FORMAT.example(row) == Conversation(TALK, (TOOL,))


@pytest.mark.parametrize("tools", [None, "", [], "[]"])
def test_a_row_without_tools(tools: Any) -> None:
    assert FORMAT.example({"messages": TURNS, "tools": tools}) == Conversation(TALK)


@pytest.mark.parametrize("value", [None, [], {"role": "user"}, 3])
def test_a_column_that_is_no_list_of_turns(value: Any) -> None:
    message = "column `{}` must be a list of turns that is not empty"
    assert problem_of("messages", {"messages": value}) == message.format("messages")
    assert problem_of("messages", {"conversation": value}) == message.format("conversation")


def test_text_that_is_no_json() -> None:
    assert problem_of("messages", {"messages": "hello"}) == (
        "column `messages`: text that is not JSON: Expecting value (line 1, column 1)"
    )


def test_a_row_without_the_column() -> None:
    assert problem_of("messages", {"prompt": "a"}) == "column `messages` is missing"


def test_turns_of_another_form_are_not_recognised() -> None:
    spoken = [{"from": "human", "value": "a"}]
    assert not FORMAT.fits({"messages": spoken})
    assert not FORMAT.fits({"conversations": []})
    assert FORMAT.fits({"messages": []})
    assert FORMAT.fits({"messages": ["a"]})


def test_the_answer_of_a_conversation_is_its_first() -> None:
    later = (Message("user", "c"), Message("assistant", "d"))
    assert Conversation((*TALK, *later)).answer == " b"
