"""The batches that a start from data is computed from: the first rows in the order of training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lora_cli.adapters.low_rank import DataStartSpec
from lora_cli.data.load import Dataset
from lora_cli.data.order import RowOrder
from lora_cli.engine.runtime import Runtime
from lora_cli.model.evidence import Calibration
from lora_cli.plan.run_plan import RunPlan
from lora_cli.tasks.causal_lm import Batch, collate, score

if TYPE_CHECKING:
    import torch


def planned_calibration(
    plan: RunPlan, dataset: Dataset, runtime: Runtime, *, padding_id: int
) -> Calibration | None:
    """Return the plan's calibration, or None for an adapter whose start needs no data."""
    spec = plan.adapter.spec
    if not isinstance(spec, DataStartSpec):
        return None
    rows = first_rows(planned_order(plan, len(dataset.train)), spec.calibration_rows)
    pairs = [(dataset.train[i].tokens.input_ids, dataset.train[i].tokens.labels) for i in rows]
    size = plan.schedule.batch_size
    batches = [
        collate(pairs[start : start + size], padding_id=padding_id, device=runtime.device)
        for start in range(0, len(pairs), size)
    ]
    return Calibration(batches, mean_loss)


def planned_order(plan: RunPlan, rows: int) -> RowOrder:
    """Return the order in which the plan trains on `rows` rows."""
    return RowOrder(
        rows=rows,
        batch_size=plan.schedule.batch_size,
        accumulation=plan.schedule.gradient_accumulation_steps,
        processes=plan.schedule.processes,
        seed=plan.seed,
    )


def first_rows(order: RowOrder, count: int) -> list[int]:
    """Return the first `count` rows of the order; all rows, if there are no more."""
    steps = min(math.ceil(count / order.rows_per_step), order.steps_per_epoch)
    return [row for step in range(1, steps + 1) for row in order.rows_of_step(step)][:count]


def mean_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Return the mean loss of the batch's supervised tokens."""
    scored = score(model, batch)
    return scored.loss_sum / scored.count
