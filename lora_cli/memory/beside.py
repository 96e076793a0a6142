"""The peak that a simulation predicts, beside the one that a run measured."""

from __future__ import annotations

from dataclasses import dataclass

from lora_cli.errors import EstimateError
from lora_cli.memory.batch_shape import BatchShape
from lora_cli.memory.simulate import CannotSimulate, simulate, twice
from lora_cli.plan.run_plan import RunPlan


@dataclass(frozen=True, slots=True)
class Comparison:
    """Bytes of one run; `predicted` is None where nothing could be simulated."""

    measured: int
    """On a GPU, what torch allocated; on a CPU, what the process grew by with its model."""
    predicted: int | None
    why_not: str = ""


def compare_peaks(plan: RunPlan, *, peak: int, before: int, largest: BatchShape) -> Comparison:
    """Return the measured peak of a run and the predicted one of its largest micro batch.

    `before` is the peak before the model was loaded. On a CPU both are the process's, interpreter
    and libraries included, and their difference is compared: it is the model's and the steps', and
    what else came to memory since, such as an adapter's start or generated answers.
    """
    measured = peak if plan.device.type == "cuda" else peak - before
    try:
        trace = simulate(plan, twice(plan, largest))
    except (CannotSimulate, EstimateError) as error:
        return Comparison(measured, None, error.problems[0].message)
    return Comparison(measured, trace.peak_bytes())
