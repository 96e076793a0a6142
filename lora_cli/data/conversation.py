"""Conversations → text in pieces: what comes before an answer, the answer, and so on in turn.

A turn is what the chat template adds after the generation prompt. That holds only if earlier
renderings are prefixes of later ones, which is checked for each row and never assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateSyntaxError

from lora_cli.facts.tokenizer import template_error
from lora_cli.formats import Message, RowProblemError
from lora_cli.words import reason_of


def render_pieces(
    tokenizer: Any, messages: Sequence[Message], system_prompt: str | None = None
) -> list[str]:
    """Return the conversation's text: pieces to read and pieces to learn, in turn.

    Raises:
        RowProblemError: the template refuses the conversation, or renders a turn in a way that
            cannot be told from what surrounds it.
        PlanError: the template is no Jinja, whatever the conversation.
    """
    messages = _with_system(messages, system_prompt)
    text = _render(tokenizer, messages)
    pieces: list[str] = []
    done = 0
    for number, message in enumerate(messages, 1):
        if message.role == "assistant":
            before = _render(tokenizer, messages[: number - 1], add_generation_prompt=True)
            after = _render(tokenizer, messages[:number])
            _check_prefixes(number, before, after, text)
            pieces += [text[done : len(before)], text[len(before) : len(after)]]
            done = len(after)
    return [*pieces, text[done:]] if text[done:] else pieces


def _check_prefixes(number: int, before: str, after: str, text: str) -> None:
    problem = ""
    if not after.startswith(before):
        problem = "does not begin the assistant's turn with the prompt it generates from"
    elif not text.startswith(after):
        problem = "renders the assistant's turn differently once the conversation goes on"
    elif not after[len(before) :].strip():
        problem = "leaves out what the assistant says"
    if problem:
        message = f"turn {number}: the chat template {problem}"
        raise RowProblemError(f"{message}, so that no mask can be trusted")


def _render(
    tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(
            tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )
    except TemplateSyntaxError as error:
        raise template_error(tokenizer, error) from error
    except Exception as error:  # a template is a program: it raises what it likes
        raise RowProblemError(f"the chat template refuses it: {reason_of(error)}") from error


def _with_system(messages: Sequence[Message], system_prompt: str | None) -> Sequence[Message]:
    if system_prompt is None or messages[0].role == "system":
        return messages
    return (Message("system", system_prompt), *messages)
