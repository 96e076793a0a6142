"""Pieces that are read or learnt → one row of tokens and labels, no longer than allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_cli.formats import RowProblemError, RowTooLongError
from lora_cli.tasks.causal_lm import IGNORED
from lora_cli.tasks.masking import Truncation
from lora_cli.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

TokenIds = list[int]


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """One row; for a causal language model `input_ids` and `labels` are int32 of the same length.

    A label is the token itself where it is trained on, and IGNORED where it is only read. Labels of
    other tasks are described with their encoders.
    """

    input_ids: NDArray[np.int32]
    labels: NDArray[Any]
    prompt_tokens: int
    """Tokens before the first answer that is learnt: what generation starts from."""
    cut_tokens: int
    ends: bool
    """Whether a token that ends an answer is supervised."""
    supervised: int
    """How many tokens are trained on: the first token is never predicted."""
    cut_turns: int = 0
    """Answers that are cut off, whole or in part."""


@dataclass(frozen=True, slots=True)
class TokenPiece:
    """The tokens of a part of a row that is read or learnt."""

    ids: TokenIds
    learnt: bool
    is_answer: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a row may be, and what becomes of one that is longer."""

    max_length: int
    truncation: Truncation
    stops: frozenset[int]
    """The tokens that end an answer."""


def row_of(pieces: Sequence[TokenPiece], limit: Limit) -> TokenizedRow:
    """Return the row of pieces that follow each other.

    Raises:
        RowTooLongError: nothing of an answer would be left.
    """
    ids, labels, answers = TokenIds(), TokenIds(), list[tuple[int, int]]()
    for piece in pieces:
        if piece.is_answer and piece.learnt:
            answers.append((len(ids), len(ids) + len(piece.ids)))
        ids += piece.ids
        labels += piece.ids if piece.learnt else [IGNORED] * len(piece.ids)
    ends = [end for _, end in answers]
    kept = _kept_tokens(len(ids), ends, limit)
    learnt = np.array(labels[:kept], dtype=np.int32)
    supervised = np.flatnonzero(learnt[1:] != IGNORED) + 1
    if not supervised.size:
        message = f"nothing of the answer is left within {counted(limit.max_length, 'token')}"
        raise RowTooLongError(f"{message} (the row has {len(ids)})")
    return TokenizedRow(
        input_ids=np.array(ids[:kept], dtype=np.int32),
        labels=learnt,
        prompt_tokens=max(1, answers[0][0]),
        cut_tokens=len(ids) - kept,
        ends=any(end <= kept and ids[end - 1] in limit.stops for end in ends),
        supervised=supervised.size,
        cut_turns=sum(end > kept for end in ends),
    )


def _kept_tokens(length: int, ends: Sequence[int], limit: Limit) -> int:
    """Return how many tokens to keep: all, or up to the last answer that is whole."""
    most = limit.max_length
    if length <= most or limit.truncation == "tokens" or not ends:
        return min(length, most)
    whole = [end for end in ends if end <= most]
    if not whole:
        message = f"its first answer ends at token {ends[0]:,}, after `max_length` ({most:,})"
        raise RowTooLongError(message)
    return most if len(whole) == len(ends) else whole[-1]


def rows_of_text(ids: TokenIds, limit: Limit) -> list[TokenizedRow]:
    """Return the rows of a text that is learnt whole, each as long as is allowed.

    A row begins with the last token of the one before it, so that every token but the text's
    first is predicted once. Only the last row ends with a stop token.

    Raises:
        RowProblemError: there is nothing to predict.
    """
    stride = limit.max_length - 1
    starts = range(0, max(len(ids) - 1, 0), stride)
    if not starts:
        raise RowProblemError("the text is one token: nothing is left to predict")
    return [_row_of_text(ids[start : start + limit.max_length], limit) for start in starts]


def _row_of_text(ids: TokenIds, limit: Limit) -> TokenizedRow:
    input_ids = np.array(ids, dtype=np.int32)
    labels = input_ids.copy()
    labels[0] = IGNORED
    return TokenizedRow(
        input_ids=input_ids,
        labels=labels,
        prompt_tokens=1,
        cut_tokens=0,
        ends=ids[-1] in limit.stops,
        supervised=len(ids) - 1,
    )
