"""What is expected after a row's prompt, to compare generated answers with."""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile
from typing import Any

from lora_cli.data.rows import Row
from lora_cli.formats import Conversation, Example
from lora_cli.tasks.causal_lm import IGNORED


def expected_answer(row: Row, example: Example, tokenizer: Any, stops: Collection[int]) -> str:
    """Return the text expected after the row's prompt up to a stop token, without thoughts.

    Of a conversation's answers it is the first that the row learns, which need not be the first;
    it is expected whole even where the row is cut in its midst.
    """
    if not isinstance(example, Conversation):
        return example.answer
    labels = row.tokens.labels[row.tokens.prompt_tokens :].tolist()
    learnt = list(takewhile(lambda label: label != IGNORED and label not in stops, labels))
    text = without_thoughts(str(tokenizer.decode(learnt, skip_special_tokens=True)))
    said = [turn.content for turn in example.messages if turn.role == "assistant"]
    cut = (whole for whole in said if whole.startswith(text))
    return next(cut, text) if row.tokens.cut_turns else text


def without_thoughts(answer: str) -> str:
    """Return what an answer says after `</think>`; all of it, if it has thought nothing."""
    _, thought, spoken = answer.rpartition("</think>")
    return spoken.lstrip("\n") if thought else answer
