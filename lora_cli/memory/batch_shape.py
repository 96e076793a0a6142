"""The shape of a micro batch, and rows of no meaning that have it.

A step allocates by how many tokens there are, which of them are padding, and which are supervised;
what the tokens are makes no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_cli.plan.run_plan import RunPlan
from lora_cli.tasks.causal_lm import collate_packed
from lora_cli.tasks.task import IGNORED, TaskRow

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BatchShape:
    """One micro batch: rows × tokens, padding included."""

    rows: int
    tokens: int
    """Of the longest row; of a pack, all of them."""
    padded: bool = False
    """Whether a row is shorter than the longest: attention then needs a mask."""
    documents: Sequence[int] = ()
    """Lengths of the documents of a pack; nothing: one document."""
    supervised: int | None = None
    """Positions at which some row is supervised: those get logits. None: all."""
    target_tokens: int | None = None
    """Of the longest target, for an encoder and decoder. None: as many as `tokens`."""

    @property
    def size(self) -> int:
        """Return how many tokens the model reads, padding included."""
        return self.rows * self.tokens

    def fields(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return {**asdict(self), "documents": list(self.documents)}


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as tasks take it."""

    input_ids: NDArray[np.int32]
    labels: NDArray[Any]
    prompt_tokens: int = field(default=0)


def shape_of(rows: Sequence[TaskRow], *, packed: bool) -> BatchShape:
    """Return the shape of the micro batch that these rows make."""
    lengths = [row.input_ids.size for row in rows]
    if packed:
        count = sum(int((row.labels[1:] != IGNORED).sum()) for row in rows)
        return BatchShape(1, sum(lengths), documents=tuple(lengths), supervised=count)
    longest = max(lengths)
    columns = np.zeros(longest, bool)
    for row in rows:  # of other tasks, labels are counted otherwise, and all have logits
        columns[: row.labels.size] |= row.labels[:longest] != IGNORED
    return BatchShape(
        len(rows),
        longest,
        padded=min(lengths) < longest,
        supervised=int(columns[1:].sum()),
        target_tokens=max(row.labels.size for row in rows),
    )


def longest_batch(plan: RunPlan) -> BatchShape:
    """Return the largest micro batch that the plan's rows can come to: all as long as the longest.

    Rows of one batch are seldom of one length: the batch is taken for a padded one unless it is one
    row. Every position is taken for supervised.
    """
    longest = plan.data.train.longest
    if plan.schedule.batching == "packed":
        return BatchShape(1, plan.data.max_length * plan.schedule.batch_size)
    target = _mean_target(plan) if plan.task.name == "seq2seq_lm" else None
    rows = min(plan.schedule.batch_size, plan.data.train.rows)
    return BatchShape(rows, longest, padded=rows > 1, target_tokens=target)


def longest_evaluation(plan: RunPlan) -> BatchShape | None:
    """Return the largest batch of the plan's evaluation; None: it has none."""
    evaluation = plan.evaluation
    if evaluation is None:
        return None
    rows = min(evaluation.batch_size, evaluation.tokens.rows)
    target = _mean_target(plan) if plan.task.name == "seq2seq_lm" else None
    return BatchShape(rows, evaluation.tokens.longest, padded=rows > 1, target_tokens=target)


def _mean_target(plan: RunPlan) -> int:
    train = plan.data.train
    return max(1, round(train.supervised / train.rows))


def batch_of(plan: RunPlan, shape: BatchShape, device: torch.device, *, packs: bool = True) -> Any:
    """Return a batch of this shape as the plan's task collates it."""
    if packs and plan.schedule.batching == "packed":
        return collate_packed(_documents(shape), device=device)
    lengths = [shape.tokens] * shape.rows
    if shape.padded and shape.rows > 1:
        lengths[1:] = [max(1, shape.tokens - 1)] * (shape.rows - 1)
    rows = [_row(plan, shape, length) for length in lengths]
    return plan.task.collate(rows, padding_id=plan.model.padding_token, device=device)


def _documents(shape: BatchShape) -> Sequence[_Row]:
    lengths = shape.documents or (shape.tokens,)
    left = shape.tokens if shape.supervised is None else shape.supervised
    rows = []
    for length in reversed(lengths):
        labels = _labels(length, min(left, length))
        left -= min(left, length)
        rows.append(_Row(np.zeros(length, np.int32), labels))
    return rows[::-1]


def _row(plan: RunPlan, shape: BatchShape, length: int) -> _Row:
    ids, task = np.zeros(length, np.int32), plan.task
    if task.name == "sequence_classification":
        problem: str = task.problem
        count = len(task.label_names()) if problem == "multi_label" else 1
        kind = np.int64 if problem == "single_label" else np.float32
        return _Row(ids, np.zeros(count, kind), length)
    if task.name == "seq2seq_lm":
        return _Row(ids, np.zeros(shape.target_tokens or length, np.int32), length)
    supervised = shape.tokens if shape.supervised is None else shape.supervised
    return _Row(ids, _labels(length, supervised - (shape.tokens - length)), length)


def _labels(length: int, supervised: int) -> NDArray[np.int32]:
    """Return labels of which the last ones are supervised."""
    labels = np.full(length, IGNORED, np.int32)
    labels[length - max(0, min(length, supervised)) :] = 0
    return labels
