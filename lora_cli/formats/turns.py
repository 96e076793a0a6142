"""Turns as OpenAI writes them → messages: each turn's fields, and who may speak when.

What chat templates take is taken: several system turns, several turns of one role, calls without
text. What has no meaning in any of them is refused, with the turn's number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_cli.formats.examples import Message
from lora_cli.formats.row_format import RowProblemError, kind_of
from lora_cli.formats.tools import read_tool_calls

ROLES = ("system", "developer", "user", "assistant", "tool")
OTHER_ROLES = {
    **dict.fromkeys(("human", "User", "prompter", "question"), "user"),
    **dict.fromkeys(("gpt", "bot", "model", "ai", "chatgpt", "Assistant"), "assistant"),
    **dict.fromkeys(("function", "observation", "ipython", "function_response"), "tool"),
}
"""What others call a role → what it is called here."""
REASONING = ("reasoning_content", "thinking", "reasoning")
FIELDS = frozenset(("role", "content", "tool_calls", "train", "weight", *REASONING))
TOOL_FIELDS = frozenset(("role", "content", "name", "tool_call_id", "train", "weight"))


def list_of_turns(value: Any, column: str) -> list[Any]:
    """Return a column's turns, at least one."""
    if not isinstance(value, list) or not value:
        raise RowProblemError(f"column `{column}` must be a list of turns that is not empty")
    return value


def read_turns(turns: Sequence[Any], *, first: int = 1) -> tuple[Message, ...]:
    """Return the messages that mappings of `role` and `content` say, text as it stands.

    `first` is the number that errors give the first turn.

    Raises:
        RowProblemError: with the number of the turn.
    """
    messages = tuple(_message(turn, number) for number, turn in enumerate(turns, first))
    for index, message in enumerate(messages):
        if message.role == "tool":
            _check_result(messages[:index], message, index + first)
    if messages[-1].role != "assistant":
        what = "the last turn is not the assistant's: nothing after it can be learnt"
        raise RowProblemError(f"{what}; write the answer, or remove the turn")
    return messages


def _check_result(before: Sequence[Message], result: Message, number: int) -> None:
    asking = next((message for message in reversed(before) if message.role != "tool"), None)
    if asking is None or asking.role != "assistant":
        hint = "the assistant's turn that calls the tool stands before it"
        raise RowProblemError(f"turn {number} is a tool's result that nobody asked for: {hint}")
    called = [str(call["id"]) for call in asking.tool_calls if "id" in call]
    if result.tool_call_id and called and result.tool_call_id not in called:
        listing = ", ".join(f"`{each}`" for each in called)
        message = f"turn {number} is the result of call `{result.tool_call_id}`"
        raise RowProblemError(f"{message}, but the calls before it are {listing}")


def _message(turn: Any, number: int) -> Message:
    if not isinstance(turn, Mapping):
        raise RowProblemError(f"turn {number} is not a mapping with `role` and `content`")
    said = {field: value for field, value in turn.items() if _is_said(field, value)}
    role = said.get("role")
    if role not in ROLES:
        raise RowProblemError(_unknown_role(said, number))
    _check_fields(said, role, number)
    calls = read_tool_calls(said.get("tool_calls"), f"turn {number}")
    content = _content(said, role, number, needed=not calls)
    if role == "assistant" and not calls and not content.strip():
        raise RowProblemError(f"turn {number}: the assistant's answer is empty; write it")
    return Message(
        role="system" if role == "developer" else role,
        content=content,
        trained=_trained(said, role, number),
        reasoning=_reasoning(said, number),
        tool_calls=calls,
        name=_name(said, "name", number),
        tool_call_id=_name(said, "tool_call_id", number),
    )


def _is_said(field: str, value: Any) -> bool:
    """Return whether a field says anything: files of columns fill those that turns have not."""
    return value is not None and (field == "content" or value not in ("", [], {}))


def _unknown_role(said: Mapping[str, Any], number: int) -> str:
    if "role" not in said and "from" in said:
        return f"turn {number} has `from` and no `role`: write `format: sharegpt` under `dataset`"
    role = said.get("role")
    meant = OTHER_ROLES.get(role, "") if isinstance(role, str) else ""
    hint = f"write `{meant}`" if meant else f"known roles: {', '.join(ROLES)}"
    return f"turn {number} has role {role!r}; {hint}"


def _check_fields(said: Mapping[str, Any], role: str, number: int) -> None:
    if "function_call" in said:
        hint = 'write `"tool_calls": [{"function": {…}}]`'
        raise RowProblemError(f"turn {number} has the older field `function_call`: {hint}")
    known = TOOL_FIELDS if role == "tool" else FIELDS
    unknown = sorted(str(field) for field in set(said) - known)
    if unknown:
        fields = ", ".join(f"`{field}`" for field in unknown)
        message = f"turn {number} ({role}) has fields that would be ignored: {fields}"
        raise RowProblemError(f"{message}; remove them")
    for field in ("tool_calls", *REASONING):
        if role != "assistant" and field in said:
            message = f"turn {number} ({role}) has `{field}`, which only assistant turns have"
            raise RowProblemError(f"{message}; remove it")


def _content(said: Mapping[str, Any], role: str, number: int, *, needed: bool) -> str:
    """Return a turn's text; that of several parts is joined as it stands."""
    content = said.get("content")
    if content is None and not needed:
        return ""
    if isinstance(content, list):
        parts = [_part(part, number) for part in content]
        if parts or not needed:
            return "".join(parts)
    if not isinstance(content, str):
        hint = "write it between quotes"
        if content is None and role == "assistant":
            hint = "an answer, or `tool_calls`"
        raise RowProblemError(f"turn {number} ({role}) has no text in `content`: {hint}")
    return content


def _part(part: Any, number: int) -> str:
    kind = part.get("type", "text") if isinstance(part, Mapping) else "no mapping"
    if kind != "text":
        message = f"turn {number} holds a part that is no text ({kind})"
        raise RowProblemError(f"{message}: parts are mappings `type: text` and `text: …`")
    if not isinstance(part.get("text"), str):
        raise RowProblemError(f"turn {number} holds a part without `text`: write it, or remove it")
    unknown = sorted(str(key) for key, value in part.items() if value is not None)
    if ignored := [f"`{key}`" for key in unknown if key not in ("type", "text")]:
        message = f"turn {number} holds a part with fields that would be ignored"
        raise RowProblemError(f"{message}: {', '.join(ignored)}; remove them")
    return str(part["text"])


def _reasoning(said: Mapping[str, Any], number: int) -> str:
    thoughts = {field: said[field] for field in REASONING if field in said}
    if any(not isinstance(thought, str) for thought in thoughts.values()):
        field = next(iter(thoughts))
        raise RowProblemError(f"turn {number} has no text in `{field}`: write it between quotes")
    if len(set(thoughts.values())) > 1:
        fields = " and ".join(f"`{field}`" for field in thoughts)
        raise RowProblemError(f"turn {number} thinks twice, in {fields}: keep one of them")
    return next(iter(thoughts.values()), "")


def _trained(said: Mapping[str, Any], role: str, number: int) -> bool | None:
    train, weight = said.get("train"), said.get("weight")
    if train is not None and not isinstance(train, bool):
        raise RowProblemError(f"turn {number}: `train` is {train!r}; write true or false")
    if weight is not None and (isinstance(weight, str) or weight not in (0, 1)):
        raise RowProblemError(f"turn {number}: `weight` is {weight!r}; write 0 or 1")
    marks = {bool(mark) for mark in (train, weight) if mark is not None}
    if len(marks) > 1:
        raise RowProblemError(f"turn {number}: `train` and `weight` disagree; keep one of them")
    if train is None and weight and role != "assistant":
        return None  # a weight of 1 stands at every turn of some files
    return marks.pop() if marks else None


def _name(said: Mapping[str, Any], field: str, number: int) -> str:
    value = said.get(field, "")
    if not isinstance(value, str):
        raise RowProblemError(f"turn {number}: `{field}` is {kind_of(value)}; write it in quotes")
    return value
