"""Rows of the tasks that read whole texts → batches, padded on the right.

Padding is masked by position, never by token id: a tokenizer may pad with its end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_cli.tasks.task import TaskRow

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Texts and what is learnt from them; ids and masks are int64 of shape (rows, tokens)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    token_type_ids: torch.Tensor | None = None
    """1 for the tokens of a second text, where any row has one."""

    def inputs(self) -> dict[str, torch.Tensor]:
        """Return what the model reads."""
        read = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        if self.token_type_ids is not None:
            read["token_type_ids"] = self.token_type_ids
        return read


def text_batch(
    rows: Sequence[TaskRow], labels: torch.Tensor, *, padding_id: int, device: torch.device
) -> TextBatch:
    """Return the rows' texts with their labels; a second text begins after `prompt_tokens`."""
    import torch

    ids = [row.input_ids for row in rows]
    input_ids = padded(ids, padding_id)
    lengths = torch.tensor([each.size for each in ids])[:, None]
    positions = torch.arange(input_ids.shape[1])[None]
    mask = (positions < lengths).long()
    types = None
    if any(row.prompt_tokens < row.input_ids.size for row in rows):
        first = torch.tensor([row.prompt_tokens for row in rows])[:, None]
        types = ((positions >= first).long() * mask).to(device)
    return TextBatch(input_ids.to(device), mask.to(device), labels.to(device), types)


def padded(rows: Sequence[NDArray[np.int32]], value: int) -> torch.Tensor:
    """Return int64 rows as one tensor, `value` after the end of those that are shorter."""
    import torch

    tensors = [torch.from_numpy(row).long() for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=float(value))


def stacked(rows: Sequence[TaskRow]) -> torch.Tensor:
    """Return the labels of rows that have equally many, in their own dtype."""
    import numpy as np
    import torch

    return torch.from_numpy(np.stack([row.labels for row in rows]))
