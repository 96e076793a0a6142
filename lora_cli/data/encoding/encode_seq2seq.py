"""Sources and targets → what the encoder reads and what the decoder learns to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.facts.tokenizer import tokenizer_sha256
from lora_cli.files import sha256_of_text
from lora_cli.formats import Example, RowProblemError, SourceTarget

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RULES = 1
"""Raised whenever this file would give other tokens or labels for the same example."""


class Seq2SeqEncoder:
    """Both sides as the tokenizer writes them, each cut at the longest length allowed.

    `labels` are the target's tokens with an end; `prompt_tokens` is the whole source.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> None:
        self._tokenizer: Any = tokenizer
        self._max_length = max_length
        self._end = tokenizer.eos_token_id
        self.fingerprint = sha256_of_text(repr((RULES, tokenizer_sha256(tokenizer), max_length)))

    def encode(self, example: Example, _system_prompt: str | None = None) -> TokenizedRow:
        """Return the source's tokens and the target's.

        Raises:
            RowProblemError: one of the two becomes no token.
        """
        assert isinstance(example, SourceTarget), "other kinds are of other tasks"
        source, source_cut = self._side(text=example.source)
        target, target_cut = self._side(text_target=example.target)
        if not len(source):
            raise RowProblemError("the source becomes no token")
        return TokenizedRow(
            input_ids=source,
            labels=target,
            prompt_tokens=source.size,
            cut_tokens=source_cut + target_cut,
            ends=self._end in target,
            supervised=target.size,
        )

    def _side(self, **text: str) -> tuple[Any, int]:
        """Return the tokens of one side, and how many are cut from its end."""
        whole = list(self._tokenizer(**text, verbose=False)["input_ids"])
        if "text_target" in text and self._end not in whole:
            whole.append(self._end)
        if len(whole) <= self._max_length:
            return np.array(whole, dtype=np.int32), 0
        limit = {"truncation": True, "max_length": self._max_length}
        kept = self._tokenizer(**text, **limit)["input_ids"]
        return np.array(kept, dtype=np.int32), len(whole) - len(kept)
