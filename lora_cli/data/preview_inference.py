"""Do training rows begin with what a server will feed the model? Some of them, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_cli.data.chat.clock import TODAY
from lora_cli.data.encoding.encoder import Encoder
from lora_cli.data.encoding.tokenize import Tokenizer
from lora_cli.data.inference import compare_with_inference
from lora_cli.data.rows import Rows
from lora_cli.formats import Conversation, RowProblemError

FIRST_OF_SOURCE = 50
"""Rows of each source that are compared, beside those that are shown."""
FURTHEST_LINE = 20_000
"""Rows are read from their files again: those that stand further down are left out."""
TOKENS_TOLD = 12
"""Around a difference."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs from its prompt at `position` (tokens, from 0), and how each goes on."""

    file: str
    line: int
    position: int
    training: str
    inference: str


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """A row whose prompt the chat template does not render."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class InferenceCheck:
    """How many conversations were compared, and all among them that differ."""

    compared: int
    different: tuple[Difference, ...]
    unanswerable: tuple[Unanswerable, ...] = ()
    fixed_date: str | None = None
    """What is read for today in both, where the chat template asks for it."""


def check_inference(
    rows: Rows, encoder: Encoder, system_prompts: Sequence[str | None], shown: Sequence[int]
) -> InferenceCheck | None:
    """Return how rows compare with inference; None where no row is a conversation.

    Raises:
        RunError: a file is no longer what it was when its rows were tokenized.
    """
    if not isinstance(encoder, Tokenizer):
        return None
    compared, different, unanswerable = 0, list[Difference](), list[Unanswerable]()
    chosen = rows.take(_chosen(rows, shown))
    for row, example in zip(chosen, chosen.examples(), strict=True):
        if not isinstance(example, Conversation):
            continue
        compared += 1
        try:
            found = compare_with_inference(encoder, example, system_prompts[row.source])
        except RowProblemError as problem:
            unanswerable.append(Unanswerable(row.file, row.line, str(problem)))
            continue
        position = found.first_difference
        if position is not None:
            told = slice(max(0, position - TOKENS_TOLD // 3), position + TOKENS_TOLD)
            texts = (encoder.text(ids[told]) for ids in (found.training, found.inference))
            different.append(Difference(row.file, row.line, position, *texts))
    if not compared:
        return None
    today = f"{TODAY:%Y-%m-%d}" if encoder.reads_clock else None
    return InferenceCheck(compared, tuple(different), tuple(unanswerable), today)


def _chosen(rows: Rows, shown: Sequence[int]) -> list[int]:
    """Return the rows to compare, in the order of their files, one an example."""
    firsts = [np.flatnonzero(rows.source == n)[:FIRST_OF_SOURCE] for n in np.unique(rows.source)]
    some = np.unique(np.concatenate([*firsts, np.array(shown, dtype=np.int64)]))
    near = some[rows.figures("line")[some] <= FURTHEST_LINE]
    _, one_each = np.unique(rows.example_numbers[near], return_index=True)
    chosen: list[int] = near[one_each].tolist()
    return chosen
