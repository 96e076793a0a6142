"""Turns: who may speak when, and what a turn may hold."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.formats import FORMATS, Conversation, Message
from tests.formats.rows import ANY_TEXT, SAID, problem_of

LETTERS = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "d": "developer"}
CALL = {"name": "add", "arguments": {"a": 1}}


def turn(role: Any = "user", content: Any = "text", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def read(*turns: Any) -> tuple[Message, ...]:
    example = FORMATS["messages"].example({"messages": list(turns)})
    assert isinstance(example, Conversation)
    return example.messages


def refused(*turns: Any) -> str:
    return problem_of("messages", {"messages": list(turns)})


def test_a_conversation_is_taken_as_it_stands() -> None:
    turns = [turn("system", " Be. "), turn("user", ""), turn("assistant", "\nyes \n")]
    assert read(*turns) == (
        Message("system", " Be. "),
        Message("user", ""),
        Message("assistant", "\nyes \n"),
    )


@given(
    system=st.lists(ANY_TEXT, max_size=2),
    talk=st.lists(st.tuples(ANY_TEXT, SAID), min_size=1, max_size=3),
)
def test_no_text_is_lost_or_changed(system: list[str], talk: list[tuple[str, str]]) -> None:
    turns = [turn("system", text) for text in system]
    for question, answer in talk:
        turns += [turn("user", question), turn("assistant", answer)]
    assert [message.content for message in read(*turns)] == [each["content"] for each in turns]


@pytest.mark.parametrize("length", range(1, 5))
def test_every_order_of_roles_is_decided(length: int) -> None:
    """It ends with an answer, and a tool's result follows the assistant's turn."""
    for letters in itertools.product("suat", repeat=length):
        word = "".join(letters)
        turns = [turn(LETTERS[letter]) for letter in word]
        stray = any(before[-1:] != "a" for before in results_follow(word))
        if word.endswith("a") and not stray:
            assert len(read(*turns)) == length
        else:
            assert refused(*turns)


def results_follow(word: str) -> list[str]:
    """Return what stands before each run of results."""
    return [word[:n].rstrip("t") for n, letter in enumerate(word) if letter == "t"]


@pytest.mark.parametrize("roles", ["ssua", "sduua", "uaa", "a", "uaua", "uatta", "usua"])
def test_what_chat_templates_take_is_taken(roles: str) -> None:
    assert [message.role for message in read(*(turn(LETTERS[letter]) for letter in roles))] == [
        LETTERS["s" if letter == "d" else letter] for letter in roles
    ]


END = "the last turn is not the assistant's: nothing after it can be learnt; write the answer, or "
STRAY = " is a tool's result that nobody asked for: the assistant's turn that calls the tool stands"


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("uau", f"{END}remove the turn"),
        ("s", f"{END}remove the turn"),
        ("uat", f"{END}remove the turn"),
        ("ta", f"turn 1{STRAY} before it"),
        ("uta", f"turn 2{STRAY} before it"),
        ("uatua" + "sta", f"turn 7{STRAY} before it"),
    ],
)
def test_roles_without_a_meaning_name_the_turn(roles: str, message: str) -> None:
    assert refused(*(turn(LETTERS[letter]) for letter in roles)) == message


ROLES = "known roles: system, developer, user, assistant, tool"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("hello", "turn 2 is not a mapping with `role` and `content`"),
        (turn("narrator"), f"turn 2 has role 'narrator'; {ROLES}"),
        (turn("gpt"), "turn 2 has role 'gpt'; write `assistant`"),
        (turn("human"), "turn 2 has role 'human'; write `user`"),
        (turn("function"), "turn 2 has role 'function'; write `tool`"),
        (turn(None), f"turn 2 has role None; {ROLES}"),
        (turn(["user"]), f"turn 2 has role ['user']; {ROLES}"),
        (
            {"from": "gpt", "value": "a"},
            "turn 2 has `from` and no `role`: write `format: sharegpt` under `dataset`",
        ),
        (
            {"role": "assistant"},
            "turn 2 (assistant) has no text in `content`: an answer, or `tool_calls`",
        ),
        (turn("user", None), "turn 2 (user) has no text in `content`: write it between quotes"),
        (turn("user", 3), "turn 2 (user) has no text in `content`: write it between quotes"),
        (
            turn("assistant", []),
            "turn 2 (assistant) has no text in `content`: write it between quotes",
        ),
        (
            turn("assistant", ["a"]),
            (
                "turn 2 holds a part that is no text (no mapping): parts are mappings "
                "`type: text` and `text: …`"
            ),
        ),
        (
            turn("user", [{"type": "image_url", "image_url": "x"}]),
            (
                "turn 2 holds a part that is no text (image_url): parts are mappings `type: text` "
                "and `text: …`"
            ),
        ),
        (
            turn("user", [{"type": "text"}]),
            "turn 2 holds a part without `text`: write it, or remove it",
        ),
        (
            turn("user", [{"type": "text", "text": "a", "cite": 3}]),
            "turn 2 holds a part with fields that would be ignored: `cite`; remove them",
        ),
        (turn("assistant", " \n"), "turn 2: the assistant's answer is empty; write it"),
        (
            turn("assistant", "", reasoning_content="so"),
            "turn 2: the assistant's answer is empty; write it",
        ),
        (
            turn("assistant", name="x", id=3),
            "turn 2 (assistant) has fields that would be ignored: `id`, `name`; remove them",
        ),
        (
            turn("assistant", function_call={"name": "f"}),
            (
                "turn 2 has the older field `function_call`: write "
                '`"tool_calls": [{"function": {…}}]`'
            ),
        ),
        (
            turn("user", tool_calls=[CALL]),
            "turn 2 (user) has `tool_calls`, which only assistant turns have; remove it",
        ),
        (
            turn("user", thinking="so"),
            "turn 2 (user) has `thinking`, which only assistant turns have; remove it",
        ),
        (
            turn("assistant", thinking="a", reasoning="b"),
            "turn 2 thinks twice, in `thinking` and `reasoning`: keep one of them",
        ),
        (
            turn("assistant", thinking=["a"]),
            "turn 2 has no text in `thinking`: write it between quotes",
        ),
        (turn("assistant", train="no"), "turn 2: `train` is 'no'; write true or false"),
        (turn("assistant", weight=0.5), "turn 2: `weight` is 0.5; write 0 or 1"),
        (turn("assistant", weight="1"), "turn 2: `weight` is '1'; write 0 or 1"),
        (
            turn("assistant", train=True, weight=0),
            "turn 2: `train` and `weight` disagree; keep one of them",
        ),
        (turn("tool", tool_call_id=3), "turn 2: `tool_call_id` is a number; write it in quotes"),
    ],
)
def test_a_turn_that_cannot_be_used(second: Any, message: str) -> None:
    assert refused(turn(), second) == message


def test_parts_are_joined_as_they_stand() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "\nb", "cache": None}]
    assert read(turn("user", parts), turn("assistant", parts)) == (
        Message("user", "a \nb"),
        Message("assistant", "a \nb"),
    )


@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_goes_by_three_names(field: str) -> None:
    assert read(turn(), turn("assistant", "4", **{field: " 2 + 2\n"}))[1] == Message(
        "assistant", "4", reasoning=" 2 + 2\n"
    )


def test_the_same_thought_twice_is_one() -> None:
    (_, answer) = read(turn(), turn("assistant", "4", thinking="so", reasoning_content="so"))
    assert answer.reasoning == "so"


@pytest.mark.parametrize(
    ("role", "marks", "trained"),
    [
        ("assistant", {}, None),
        ("assistant", {"train": True}, True),
        ("assistant", {"train": False, "weight": 0}, False),
        ("assistant", {"weight": 1.0}, True),
        ("assistant", {"weight": None, "train": None}, None),
        ("user", {"weight": 0}, False),
        ("user", {"weight": 1}, None),
        ("user", {"train": True, "weight": 1}, True),
    ],
)
def test_a_turn_says_whether_it_is_trained_on(
    role: str, marks: dict[str, Any], trained: bool | None
) -> None:
    assert read(turn(role, "x", **marks), turn("assistant"))[0].trained is trained


def test_a_call_needs_no_text_and_its_result_names_it() -> None:
    calls = [{"id": "c1", "type": "function", "function": CALL}]
    result = turn("tool", "3", tool_call_id="c1", name="add")
    messages = read(turn(), turn("assistant", None, tool_calls=calls), result, turn("assistant"))
    assert messages[1] == Message("assistant", "", tool_calls=({**CALL, "id": "c1"},))
    assert messages[2] == Message("tool", "3", name="add", tool_call_id="c1")


def test_a_call_may_be_all_that_is_learnt() -> None:
    assert read(turn(), turn("assistant", [], tool_calls=[CALL]))[1].tool_calls == (CALL,)


def test_a_result_of_another_call() -> None:
    calls = [{"id": "c1", **CALL}, {"id": "c2", **CALL}]
    turns = [turn(), turn("assistant", tool_calls=calls), turn("tool", tool_call_id="c2")]
    assert refused(*turns, turn("tool", tool_call_id="c3"), turn("assistant")) == (
        "turn 4 is the result of call `c3`, but the calls before it are `c1`, `c2`"
    )


def test_fields_that_a_table_fills_with_nothing_are_not_there() -> None:
    nothing = {"tool_calls": None, "name": "", "tool_call_id": None, "weight": None}
    assert read(turn(**nothing), turn("assistant", **nothing, thinking="")) == (
        Message("user", "text"),
        Message("assistant", "text"),
    )
    assert read(turn("assistant"), turn("tool", tool_calls=[]), turn("assistant"))
