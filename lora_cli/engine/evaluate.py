"""The loss and the task's figures on the rows kept apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from lora_cli.data.rows import Rows
from lora_cli.engine.runtime import Runtime
from lora_cli.step.evaluating import evaluating
from lora_cli.tasks.task import Measured, Task, Totals


def evaluate(
    task: Task,
    model: Any,
    rows: Rows,
    runtime: Runtime,
    *,
    batch_size: int,
    padding_id: int,
) -> tuple[float, Measured]:
    """Return the mean loss over all labels of `rows`, over all processes, and the task's figures.

    Rows are taken longest first, so that a batch holds rows of like length; the means do not
    depend on how rows are batched.
    """
    import torch

    longest_first = np.argsort(-rows.lengths, kind="stable")
    mine = rows.take(longest_first[runtime.rank :: runtime.processes])
    sums = torch.zeros(3, dtype=torch.float64, device=runtime.device)
    predictions: list[Any] = []
    references: list[Any] = []
    with evaluating(model):
        for start in range(0, len(mine), batch_size):
            tokens = [row.tokens for row in mine[start : start + batch_size]]
            batch = task.collate(tokens, padding_id=padding_id, device=runtime.device)
            scored = task.score(model, batch)
            sums[0] += scored.loss_sum
            sums[1] += scored.correct
            sums[2] += scored.count
            predictions += scored.predictions or ()
            references += scored.references or ()
    loss_sum, correct, count = runtime.sum(sums).tolist()
    loss = loss_sum / count
    return loss, task.measured(Totals(loss, correct / count, predictions, references))
