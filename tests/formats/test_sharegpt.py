"""ShareGPT's turns: who they are from, calls and observations, the system column."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.formats import FORMATS, Conversation, Message
from tests.formats.rows import ANY_TEXT, SAID, problem_of

FORMAT = FORMATS["sharegpt"]
CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}
TALK = [{"from": "human", "value": "a"}, {"from": "gpt", "value": " b"}]


def refused(*turns: Any, **columns: Any) -> str:
    return problem_of("sharegpt", {"conversations": list(turns), **columns})


@given(system=ANY_TEXT, talk=st.lists(st.tuples(ANY_TEXT, SAID), min_size=1, max_size=3))
def test_no_text_is_lost_or_changed(system: str, talk: list[tuple[str, str]]) -> None:
    turns = [
        {"from": speaker, "value": text}
        for pair in talk
        for speaker, text in zip(("human", "gpt"), pair, strict=True)
    ]
    example = FORMAT.example({"conversations": turns, "system": system})
    assert isinstance(example, Conversation)
    said = [message.content for message in example.messages]
    assert said == [system] * bool(system) + [turn["value"] for turn in turns]


@pytest.mark.parametrize("as_list", [False, True])
def test_calls_and_observations(as_list: bool) -> None:
    call = json.dumps([CALL] if as_list else CALL)
    turns = [TALK[0], {"from": "function_call", "value": call}]
    turns += [{"from": "observation", "value": "3"}, {"from": "tool", "value": "4"}, TALK[1]]
    tools = json.dumps([{"name": "add"}])
    assert FORMAT.example({"conversations": turns, "tools": tools}) == Conversation(
        (
            Message("user", "a"),
            Message("assistant", "", tool_calls=(CALL,)),
            Message("tool", "3"),
            Message("tool", "4"),
            Message("assistant", " b"),
        ),
        ({"type": "function", "function": {"name": "add"}},),
    )


@pytest.mark.parametrize("column", ["conversations", "messages", "conversation"])
def test_turns_are_recognised_in_any_of_their_columns(column: str) -> None:
    assert FORMAT.fits({column: TALK})
    assert FORMAT.example({column: TALK, "system_prompt": "Be."}) == Conversation(
        (Message("system", "Be."), Message("user", "a"), Message("assistant", " b"))
    )
    assert not FORMAT.fits({column: [{"role": "user", "content": "a"}]})


def test_a_turn_may_say_whether_it_is_trained_on() -> None:
    example = FORMAT.example({"conversations": [*TALK, {**TALK[1], "weight": 0}]})
    assert isinstance(example, Conversation)
    assert [message.trained for message in example.messages] == [None, None, False]


KNOWN = "known: human, user, gpt, assistant, system, function_call, observation, tool"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("hello", "turn 2 is not a mapping with `from` and `value`"),
        (
            {"role": "assistant", "content": "x"},
            "turn 2 has `role` and no `from`: write `format: messages` under `dataset`",
        ),
        ({"from": "bing", "value": "x"}, f"turn 2 is from 'bing'; {KNOWN}"),
        ({"value": "x"}, f"turn 2 is from None; {KNOWN}"),
        (
            {"from": "gpt", "value": "x", "content": "y"},
            "turn 2 has `content` beside `from` and `value`; remove what says it twice",
        ),
        ({"from": "gpt"}, "turn 2 (gpt) has no text in `value`: write it there"),
        ({"from": "gpt", "value": " "}, "turn 2: the assistant's answer is empty; write it"),
        (
            {"from": "gpt", "value": "x", "markdown": "y"},
            "turn 2 (assistant) has fields that would be ignored: `markdown`; remove them",
        ),
        (
            {"from": "function_call", "value": "add(1, 2)"},
            "turn 2 (function_call): text that is not JSON: Expecting value (line 1, column 1)",
        ),
        (
            {"from": "function_call", "value": "[]"},
            'turn 2 (function_call) is no call: write {"name": …, "arguments": {…}}',
        ),
    ],
)
def test_a_turn_that_cannot_be_used(second: Any, message: str) -> None:
    assert refused(TALK[0], second) == message


def test_turns_are_counted_from_the_first_in_the_row() -> None:
    talk = [*TALK, {"from": "gpt", "value": ""}]
    for columns in ({}, {"system": "Be."}):
        assert refused(*talk, **columns) == "turn 3: the assistant's answer is empty; write it"
    stray = {"from": "observation", "value": "3"}
    assert refused(TALK[0], stray, TALK[1], system="Be.").startswith("turn 2 is a tool's result")


def test_two_system_turns_in_two_places() -> None:
    assert refused({"from": "system", "value": "Be."}, *TALK, system="Be brief.") == (
        "turn 1 is system, and so is column `system`: keep one of the two"
    )
