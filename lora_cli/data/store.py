"""Tokenized rows in three flat arrays: in memory, or mapped from disk.

This module does not know what a row means, where its file lies or which rows a run trains on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_cli.data.encoding.tokenized_row import TokenizedRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROW = np.dtype(
    [
        ("first_token", np.int64),
        ("first_label", np.int64),
        ("line", np.int64),
        ("content", np.uint64),
        ("file", np.int32),
        ("length", np.int32),
        ("labels", np.int32),
        ("prompt_tokens", np.int32),
        ("cut_tokens", np.int32),
        ("cut_turns", np.int32),
        ("supervised", np.int32),
        ("ends", np.int32),
    ]
)
"""What is held of a row beside its tokens: where they and its labels begin and how many they are,
its line in which file of its source, a hash of its tokens, and the figures of a TokenizedRow.

64 bytes without a gap: numpy leaves in gaps what the memory held before."""


@dataclass(frozen=True, slots=True)
class Store:
    """Rows after each other: all their tokens, all their labels, and one ROW each."""

    input_ids: NDArray[np.int32]
    labels: NDArray[Any]
    rows: NDArray[Any]

    def __len__(self) -> int:
        return len(self.rows)

    def tokens(self, index: int) -> TokenizedRow:
        """Return a row's tokens and labels, in arrays of its own."""
        row = self.rows[index]
        first, label = int(row["first_token"]), int(row["first_label"])
        return TokenizedRow(
            input_ids=self.input_ids[first : first + int(row["length"])].copy(),
            labels=self.labels[label : label + int(row["labels"])].copy(),
            prompt_tokens=int(row["prompt_tokens"]),
            cut_tokens=int(row["cut_tokens"]),
            cut_turns=int(row["cut_turns"]),
            ends=bool(row["ends"]),
            supervised=int(row["supervised"]),
        )


def pack_rows(rows: Sequence[tuple[int, int, TokenizedRow]]) -> Store:
    """Return rows, each as (number of its file, line, tokens), in one store in memory."""
    held = np.zeros(len(rows), dtype=ROW)
    first_token = first_label = 0
    for index, (file, line, tokens) in enumerate(rows):
        held[index] = (
            first_token,
            first_label,
            line,
            _hash_of(tokens.input_ids),
            file,
            tokens.input_ids.size,
            tokens.labels.size,
            tokens.prompt_tokens,
            tokens.cut_tokens,
            tokens.cut_turns,
            tokens.supervised,
            tokens.ends,
        )
        first_token += tokens.input_ids.size
        first_label += tokens.labels.size
    if not rows:
        return Store(np.empty(0, np.int32), np.empty(0, np.int32), held)
    input_ids = np.concatenate([tokens.input_ids for _, _, tokens in rows])
    return Store(input_ids, np.concatenate([tokens.labels for _, _, tokens in rows]), held)


def _hash_of(input_ids: NDArray[np.int32]) -> int:
    """Return 64 bits of a hash: of 10 million rows, two differ and share it once in 370,000."""
    digest = hashlib.blake2b(np.ascontiguousarray(input_ids).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
