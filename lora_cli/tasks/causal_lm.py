"""Causal language modelling: each supervised token is predicted from the ones before it.

Losses are sums over supervised tokens; the caller divides by the count over the whole accumulated
batch, so that splitting a batch changes nothing (the mean of means is not the mean).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

IGNORED = -100
"""Label of a token that is not predicted."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows; all tensors int64 of shape (rows, tokens)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, slots=True)
class Scored:
    """What a forward pass says of a batch: of `count` supervised tokens, `correct` are right."""

    loss_sum: torch.Tensor
    count: int
    correct: torch.Tensor


def collate(
    rows: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]],
    *,
    padding_id: int,
    device: torch.device,
) -> Batch:
    """Return (input ids, labels) pairs as one batch, padded on the right to the longest.

    Padding is masked by position, never by token id: where a tokenizer pads with its end token, the
    real end of a turn stays supervised.
    """
    import torch

    longest = max(ids.size for ids, _ in rows)
    shape = (len(rows), longest)
    input_ids = torch.full(shape, padding_id, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, IGNORED, dtype=torch.int64)
    for index, (ids, row_labels) in enumerate(rows):
        input_ids[index, : ids.size] = torch.from_numpy(ids)
        attention_mask[index, : ids.size] = 1
        labels[index, : ids.size] = torch.from_numpy(row_labels)
    return Batch(input_ids.to(device), attention_mask.to(device), labels.to(device))


def score(model: torch.nn.Module, batch: Batch) -> Scored:
    """Return the summed cross-entropy of the batch's supervised tokens, in float32.

    Logits are computed only at positions that some row of the batch is supervised at: the head of a
    large vocabulary is a good part of a small model's step.
    """
    import torch
    from torch.nn import functional

    targets = batch.labels[:, 1:]
    columns = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    targets = targets[:, columns]
    logits = _logits(model, batch, columns).float()
    loss_sum = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    with torch.no_grad():
        correct = ((logits.argmax(-1) == targets) & (targets != IGNORED)).sum()
    return Scored(loss_sum, int((targets != IGNORED).sum()), correct)


def _logits(model: Any, batch: Batch, columns: torch.Tensor) -> torch.Tensor:
    """Return logits of shape (rows, len(columns), vocabulary).

    Columns are counted from the end: an adapter may put virtual tokens in front of a row.
    """
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    columns = columns - batch.input_ids.shape[1]
    logits: torch.Tensor
    if _keeps_logits(model):
        logits = model(**inputs, use_cache=False, logits_to_keep=columns).logits
        return logits
    logits = model(**inputs, use_cache=False).logits
    return logits[:, columns]


def _keeps_logits(model: Any) -> bool:
    base = getattr(model, "module", model)  # a data-parallel wrapper hides the model
    base = base.get_base_model() if hasattr(base, "get_base_model") else base
    return "logits_to_keep" in inspect.signature(base.forward).parameters
