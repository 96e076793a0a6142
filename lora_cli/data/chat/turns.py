"""Messages as chat templates take them, and what a template may not leave out of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lora_cli.formats import Conversation, Message, RowProblemError

OPENED_THOUGHT = re.compile(r"<think>\s*\Z")
"""The end of a prompt that makes the model think first."""
OTHER_TEMPLATE = "name another with `model.chat_template`"

Render = Callable[[Conversation], str]


def with_system(conversation: Conversation, system_prompt: str | None) -> Conversation:
    """Return the conversation with a system turn first, if it has none of its own."""
    messages = conversation.messages
    if system_prompt is None or messages[0].role == "system":
        return conversation
    return replace(conversation, messages=(Message("system", system_prompt), *messages))


def without_reasoning(conversation: Conversation) -> Conversation:
    """Return the conversation without what the assistant thought, inside its answers too.

    Raises:
        RowProblemError: nothing else is left of an answer.
    """
    messages = list(conversation.messages)
    for index, turn in enumerate(messages):
        if turn.role == "assistant":
            spoken = turn.content
            if "</think>" in spoken:
                spoken = thought_and_spoken(turn)[1].lstrip()
            if not spoken.strip() and not turn.tool_calls:
                message = f"turn {index + 1}: without its reasoning the answer is empty"
                raise RowProblemError(f"{message}; write it, or set `training.reasoning: keep`")
            messages[index] = replace(turn, reasoning="", content=spoken)
    return replace(conversation, messages=tuple(messages))


def plain_message(message: Message) -> dict[str, Any]:
    """Return the message as the mapping that chat templates read."""
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        plain["reasoning_content"] = message.reasoning
    if message.tool_calls:
        plain["tool_calls"] = [_plain_call(call) for call in message.tool_calls]
    if message.name:
        plain["name"] = message.name
    if message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["arguments"]}
    identity = {"id": call["id"]} if "id" in call else {}
    return {**identity, "type": "function", "function": function}


def with_opened_thought(prompt: str, answered: str, turn: Message) -> str | None:
    """Return the answered conversation as it is generated from a prompt that opens a thought.

    Templates such as DeepSeek-R1's leave thoughts out of every answer, that of the last turn too:
    only the prompt shows where they stand. None if the prompt opens none, or has other text.
    """
    opened = OPENED_THOUGHT.search(prompt)
    if opened is None or not answered.startswith(prompt[: opened.start()]):
        return None
    thought = turn.reasoning or thought_and_spoken(turn)[0]
    spoken = answered[opened.start() :].lstrip("\n")
    return "".join([prompt, thought.strip("\n"), "\n</think>\n\n", spoken])


def thought_and_spoken(turn: Message) -> tuple[str, str]:
    """Return what an answer's own text says up to the end of its thoughts, and after it."""
    thought, _, spoken = turn.content.rpartition("</think>")
    return thought.lstrip().removeprefix("<think>"), spoken


def check_nothing_is_left_out(conversation: Conversation, text: str, render: Render) -> None:
    """Check that the rendered text holds every turn, every call and every tool.

    Raises:
        RowProblemError: with the first that the template leaves out.
    """
    for number, turn in enumerate(conversation.messages, 1):
        if not holds(text, turn.content) and not _tells(conversation, number, text, render):
            what = f"the chat template leaves out its text; {OTHER_TEMPLATE}, or remove the turn"
            raise RowProblemError(f"turn {number} ({turn.role}): {what}")
        for call in turn.tool_calls:
            if not all(holds(text, word) for word in (call["name"], *call["arguments"])):
                what = f"the chat template leaves out the call of `{call['name']}`"
                raise RowProblemError(f"turn {number}: {what}; {OTHER_TEMPLATE}")
    for tool in conversation.tools:
        name = str(tool["function"]["name"])
        if not holds(text, name):
            message = f"the chat template leaves out the tool `{name}`"
            raise RowProblemError(f"{message}; {OTHER_TEMPLATE}, or remove the tools")


def holds(text: str, words: str) -> bool:
    """Return whether the text holds words as they stand, or inside a JSON string."""
    stripped = words.strip()
    return stripped in text or json.dumps(stripped, ensure_ascii=False)[1:-1] in text


def _tells(conversation: Conversation, number: int, text: str, render: Render) -> bool:
    """Return whether another content in this turn would give another text.

    A template may well change a content, such as cut the thoughts out of it.
    """
    messages = list(conversation.messages)
    messages[number - 1] = replace(messages[number - 1], content="Xyzzy")
    return render(replace(conversation, messages=tuple(messages))) != text
