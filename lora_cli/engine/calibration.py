"""The batches that a start from data is computed from: the first rows in the order of training."""

from __future__ import annotations

from itertools import chain, islice

from lora_cli.adapters.low_rank import DataStartSpec
from lora_cli.data.batches.order import BatchOrder
from lora_cli.data.load import Dataset
from lora_cli.engine.runtime import Runtime
from lora_cli.model.evidence import Calibration
from lora_cli.plan.batches import order_of_plan
from lora_cli.plan.run_plan import RunPlan


def planned_calibration(
    plan: RunPlan, dataset: Dataset, runtime: Runtime, *, padding_id: int
) -> Calibration | None:
    """Return the plan's calibration, or None for an adapter whose start needs no data."""
    spec = plan.adapter.spec
    if not isinstance(spec, DataStartSpec):
        return None
    rows = first_rows(order_of_plan(plan, dataset.train), spec.calibration_rows)
    tokens = [dataset.train[index].tokens for index in rows]
    size = plan.schedule.batch_size
    batches = [
        plan.task.collate(
            tokens[start : start + size], padding_id=padding_id, device=runtime.device
        )
        for start in range(0, len(tokens), size)
    ]
    return Calibration(batches, plan.task.mean_loss)


def first_rows(order: BatchOrder, count: int) -> list[int]:
    """Return the first `count` rows of the order; those of one epoch, if it has no more."""
    steps = range(1, order.steps_per_epoch + 1)
    return list(islice(chain.from_iterable(map(order.rows_of_step, steps)), count))
