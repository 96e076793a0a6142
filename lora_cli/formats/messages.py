"""Rows of one column `messages`: a list of turns `{"role": …, "content": …}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_cli.formats.examples import Conversation, Message
from lora_cli.formats.row_format import Row, RowProblemError

ROLES = ("system", "user", "assistant")


class Messages:
    """An optional system turn, then user and assistant in turn, an assistant last."""

    columns = frozenset({"messages"})

    def example(self, row: Row) -> Conversation:
        """Return the conversation; its roles are checked, its text is left as it stands."""
        turns = row.get("messages")
        if not isinstance(turns, list) or not turns:
            raise RowProblemError("column `messages` must be a list of turns that is not empty")
        messages = tuple(_message(turn, number) for number, turn in enumerate(turns, 1))
        _check_order(messages)
        return Conversation(messages)


def _message(turn: Any, number: int) -> Message:
    if not isinstance(turn, Mapping):
        raise RowProblemError(f"turn {number} is not a mapping with `role` and `content`")
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise RowProblemError(f"turn {number} has role {role!r}; known roles: {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise RowProblemError(f"turn {number} ({role}) has no text in `content`")
    unknown = sorted(set(turn) - {"role", "content"})
    if unknown:
        fields = ", ".join(f"`{field}`" for field in unknown)
        raise RowProblemError(f"turn {number} has fields that would be ignored: {fields}")
    if role == "assistant" and not content.strip():
        raise RowProblemError(f"turn {number}: the assistant's answer is empty")
    return Message(role=role, content=content)


def _check_order(messages: tuple[Message, ...]) -> None:
    turns = messages[1:] if messages[0].role == "system" else messages
    for position, message in enumerate(turns):
        expected = "user" if position % 2 == 0 else "assistant"
        if message.role != expected:
            number = position + 1 + len(messages) - len(turns)
            raise RowProblemError(f"turn {number} is {message.role}; {expected} was due")
    if not turns or turns[-1].role != "assistant":
        raise RowProblemError("the last turn is not the assistant's: there is nothing to learn")
