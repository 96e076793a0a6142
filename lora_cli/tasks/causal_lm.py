"""Causal language modelling: each supervised token is predicted from the ones before it.

Losses are sums over supervised tokens; the caller divides by the count over the whole accumulated
batch, so that splitting a batch changes nothing (the mean of means is not the mean).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lora_cli.formats.examples import Conversation, Example, Pair, PlainText
from lora_cli.tasks.measures import text_figures
from lora_cli.tasks.task import IGNORED, Measured, Scored, Task, TaskRow, Totals

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["IGNORED", "Batch", "CausalLm", "Scored", "collate", "log_likelihoods", "score"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows, or one row of documents end to end; all tensors int64, (rows, tokens)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor | None = None
    """Of each token in its document, where documents share a row."""


class CausalLm(Task):
    """The next token, where a row is supervised."""

    name: Literal["causal_lm"] = "causal_lm"
    """Text: each supervised token from the ones before it."""

    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    peft_task: ClassVar[str] = "CAUSAL_LM"
    kinds: ClassVar[tuple[type[Example], ...]] = (Conversation, Pair, PlainText)
    generates: ClassVar[bool] = True

    def collate(self, rows: Sequence[TaskRow], *, padding_id: int, device: torch.device) -> Batch:
        """Return rows as one batch."""
        pairs = [(row.input_ids, row.labels) for row in rows]
        return collate(pairs, padding_id=padding_id, device=device)

    def score(self, model: torch.nn.Module, batch: Batch) -> Scored:
        """Return the summed cross-entropy of the batch's supervised tokens, in float32."""
        return score(model, batch)

    def measured(self, totals: Totals) -> Measured:
        """Return perplexity and token accuracy."""
        return text_figures(totals)


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


def collate_packed(rows: Sequence[TaskRow], *, device: torch.device) -> Batch:
    """Return rows as documents end to end in one row, without padding.

    Positions restart with each document: that is what keeps them apart in transformers. The first
    token of a document is not predicted from the last of the one before.
    """
    import numpy as np
    import torch

    labels = [row.labels.copy() for row in rows]
    for each in labels:
        each[0] = IGNORED
    parts = (
        np.concatenate([row.input_ids for row in rows]),
        np.concatenate(labels),
        np.concatenate([np.arange(row.input_ids.size) for row in rows]),
    )
    ids, targets, positions = (
        torch.from_numpy(part.astype(np.int64)).unsqueeze(0).to(device) for part in parts
    )
    return Batch(ids, torch.ones_like(ids), targets, positions)


def score(model: torch.nn.Module, batch: Batch) -> Scored:
    """Return the summed cross-entropy of the batch's supervised tokens, in float32.

    Logits are computed only at positions that some row of the batch is supervised at, and if these
    are many in chunks of tokens, where the model allows it: the head of a large vocabulary is a
    good part of a small model's step, and of any step's memory.
    """
    from lora_cli.tasks.chunked_loss import head_for, left_out, summed_loss

    targets = batch.labels[:, 1:]
    columns = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    targets = targets[:, columns]
    supervised = targets != IGNORED
    head = head_for(model, targets.numel())
    if head is None:
        return _score_at_once(_logits(model, batch, columns).float(), targets)
    with left_out(head):
        states = _logits(model, batch, columns)
    loss_sum, correct = summed_loss(states[supervised], targets[supervised], head)
    return Scored(loss_sum, int(supervised.sum()), correct)


def _score_at_once(logits: torch.Tensor, targets: torch.Tensor) -> Scored:
    import torch
    from torch.nn import functional

    loss_sum = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    with torch.no_grad():
        correct = ((logits.argmax(-1) == targets) & (targets != IGNORED)).sum()
    return Scored(loss_sum, int((targets != IGNORED).sum()), correct)


def log_likelihoods(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return for each row the log-likelihood of its supervised tokens together, in float32."""
    import torch

    targets = batch.labels[:, 1:]
    columns = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    targets = targets[:, columns]
    logits = _logits(model, batch, columns).float()
    chosen = logits.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    each = chosen - torch.logsumexp(logits, dim=-1)
    return each.where(targets != IGNORED, 0.0).sum(dim=1)


def _logits(model: Any, batch: Batch, columns: torch.Tensor) -> torch.Tensor:
    """Return logits of shape (rows, len(columns), vocabulary).

    Columns are counted from the end: an adapter may put virtual tokens in front of a row.
    """
    inputs = {"input_ids": batch.input_ids}
    if batch.positions is None:
        inputs["attention_mask"] = batch.attention_mask
    else:  # documents are only told apart where no mask is given
        inputs["position_ids"] = batch.positions
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
