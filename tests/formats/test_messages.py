"""Conversations: who may speak when, and what a turn may hold."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from lora_cli.formats import FORMATS, Message, RowProblemError

FORMAT = FORMATS["messages"]
LETTERS = {"s": "system", "u": "user", "a": "assistant"}


def turn(role: Any = "user", content: Any = "text", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def problem_of(*turns: Any) -> str:
    with pytest.raises(RowProblemError) as caught:
        FORMAT.example({"messages": list(turns)})
    return str(caught.value)


def test_a_conversation_is_taken_as_it_stands() -> None:
    turns = [turn("system", " Be. "), turn("user", ""), turn("assistant", "\nyes \n")]
    example = FORMAT.example({"messages": turns})
    assert example.messages == (
        Message("system", " Be. "),
        Message("user", ""),
        Message("assistant", "\nyes \n"),
    )
    assert example.answer == "\nyes \n"


@pytest.mark.parametrize("length", range(1, 6))
def test_every_order_of_roles_is_decided(length: int) -> None:
    for letters in itertools.product("sua", repeat=length):
        word = "".join(letters)
        turns = [turn(LETTERS[letter]) for letter in word]
        talk = word.removeprefix("s")
        if talk and talk == "ua" * (len(talk) // 2):
            assert len(FORMAT.example({"messages": turns}).messages) == length
        else:
            assert problem_of(*turns)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("a", "turn 1 is assistant; user was due"),
        ("ss", "turn 2 is system; user was due"),
        ("uu", "turn 2 is user; assistant was due"),
        ("suasua", "turn 4 is system; user was due"),
        ("uau", "the last turn is not the assistant's: there is nothing to learn"),
        ("s", "the last turn is not the assistant's: there is nothing to learn"),
    ],
)
def test_roles_out_of_order_name_the_turn(roles: str, message: str) -> None:
    assert problem_of(*(turn(LETTERS[letter]) for letter in roles)) == message


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("hello", "turn 2 is not a mapping with `role` and `content`"),
        (turn("tool"), "turn 2 has role 'tool'; known roles: system, user, assistant"),
        (turn(None), "turn 2 has role None; known roles: system, user, assistant"),
        (turn(["user"]), "turn 2 has role ['user']; known roles: system, user, assistant"),
        ({"role": "assistant"}, "turn 2 (assistant) has no text in `content`"),
        (turn("assistant", ["a"]), "turn 2 (assistant) has no text in `content`"),
        (turn("assistant", " \n"), "turn 2: the assistant's answer is empty"),
        (
            turn("assistant", weight=0, name="x"),
            "turn 2 has fields that would be ignored: `name`, `weight`",
        ),
    ],
)
def test_a_turn_that_cannot_be_used(second: Any, message: str) -> None:
    assert problem_of(turn(), second) == message


@pytest.mark.parametrize("messages", [None, [], "text", {"role": "user"}, 3])
def test_a_column_that_is_no_list_of_turns(messages: Any) -> None:
    with pytest.raises(RowProblemError, match="`messages` must be a list of turns that is not"):
        FORMAT.example({"messages": messages})


def test_a_row_without_the_column() -> None:
    with pytest.raises(RowProblemError, match="`messages` must be a list"):
        FORMAT.example({"prompt": "a"})
