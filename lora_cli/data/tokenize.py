"""Examples → token ids and labels: what is trained on and what is only read.

A row is a chain of pieces, read and learnt in turn: what comes before an answer, the answer, what
comes before the next one. Tokens belong to their piece by construction; no offsets are trusted.
This module does not know files or batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_cli.data.conversation import render_pieces
from lora_cli.formats import Conversation, Example, Pair, RowProblemError
from lora_cli.tasks.causal_lm import IGNORED
from lora_cli.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

TokenIds = list[int]


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """One row; `input_ids` and `labels` are int32 of the same length.

    A label is the token itself where it is trained on, and IGNORED where it is only read.
    """

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    prompt_tokens: int
    """Tokens before the first supervised one: what generation starts from."""
    cut_tokens: int
    ends: bool
    """Whether a token that ends an answer is supervised."""

    @property
    def supervised(self) -> int:
        """Return how many tokens are trained on: the first token is never predicted."""
        return int((self.labels[1:] != IGNORED).sum())


class Tokenizer:
    """Renders and masks examples with one model's tokenizer and chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> None:
        self._tokenizer: Any = tokenizer
        self._max_length = max_length
        self._control_ids = _control_ids(tokenizer)
        self._prefix = self._written_before_a_text()

    @property
    def has_chat_template(self) -> bool:
        """Return whether conversations can be rendered."""
        return bool(self._tokenizer.chat_template)

    def tokenize(self, example: Example, system_prompt: str | None = None) -> TokenizedRow:
        """Return the example's tokens and labels, cut at the longest length allowed.

        Raises:
            RowProblemError: it cannot be rendered so that its mask can be trusted, or nothing
                of its answer is left after cutting.
            PlanError: no conversation can be rendered.
        """
        if isinstance(example, Conversation):
            texts = render_pieces(self._tokenizer, example.messages, system_prompt)
            return self._row(self._ids_of(texts))
        assert isinstance(example, Pair), "formats of other kinds are of other tasks"
        return self._row(self._pair(example.prompt, example.completion))

    def _pair(self, prompt: str, completion: str) -> list[TokenIds]:
        """Return prompt and completion, with the tokens that a text begins and ends with."""
        given, answer = self._ids_of([prompt, completion])
        if given[: len(self._prefix)] != self._prefix:
            given = [*self._prefix, *given]
        end = self._tokenizer.eos_token_id
        return [given, answer if answer[-1:] == [end] else [*answer, end]]

    def _ids_of(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the ids of each piece of a text.

        Inference tokenizes what comes before an answer without it, and so does this: where the
        whole text would merge across a border, the next piece is tokenized on its own.
        """
        pieces: list[TokenIds] = []
        text = ""
        done: TokenIds = []
        for piece in texts:
            text += piece
            joint = self._ids(text)
            follows = joint[: len(done)] == done
            new = joint[len(done) :] if follows else self._ids(piece)
            if not follows and self._text(done + new) != self._text(joint):
                message = "the tokenizer merges the end of the prompt with the start of the answer"
                raise RowProblemError(f"{message}, and reads them differently apart")
            pieces.append(new)
            done = done + new
        return pieces

    def _row(self, pieces: Sequence[TokenIds]) -> TokenizedRow:
        """Return the row of pieces that are read and learnt in turn."""
        ids: TokenIds = []
        labels: list[int] = []
        ends: list[int] = []
        for number, piece in enumerate(pieces):
            learnt = self._length_of_turn(piece) if number % 2 else 0
            ids += piece
            labels += piece[:learnt] + [IGNORED] * (len(piece) - learnt)
            if learnt and piece[learnt - 1] in self._control_ids:
                ends.append(len(ids) - len(piece) + learnt)
        kept = np.array(labels[: self._max_length], dtype=np.int32)
        supervised = np.flatnonzero(kept[1:] != IGNORED) + 1
        if not supervised.size:
            message = f"nothing of the answer is left within {counted(self._max_length, 'token')}"
            raise RowProblemError(f"{message} (the row has {len(ids)})")
        return TokenizedRow(
            input_ids=np.array(ids[: self._max_length], dtype=np.int32),
            labels=kept,
            prompt_tokens=int(supervised[0]),
            cut_tokens=max(0, len(ids) - self._max_length),
            ends=any(end <= self._max_length for end in ends),
        )

    def _length_of_turn(self, ids: TokenIds) -> int:
        """Return how many tokens a turn has up to the one that ends it.

        White space that a template writes after that is not the assistant's.
        """
        length = len(ids)
        last = max((i for i, token in enumerate(ids) if token in self._control_ids), default=-1)
        if last >= 0 and not self._text(ids[last + 1 :]).strip():
            length = last + 1
            if ids[last] in ids[:last]:
                end = self._text([ids[last]])
                message = f"an answer holds `{end}`, which ends a turn"
                raise RowProblemError(f"{message}: nothing after it would ever be generated")
        return length

    def _written_before_a_text(self) -> TokenIds:
        """Return the tokens that the tokenizer puts before a text, such as its begin token."""
        plain = self._ids("a")
        full: TokenIds = list(self._tokenizer("a")["input_ids"])
        starts = (i for i in range(len(full)) if full[i : i + len(plain)] == plain)
        return full[: next(starts, 0)]

    def _ids(self, text: str) -> TokenIds:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, ids: TokenIds) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _control_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids of tokens that are no text: the named ones, and all that are marked so."""
    marked = (i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset([*tokenizer.all_special_ids, *marked])
