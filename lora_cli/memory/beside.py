"""The peak that a simulation predicts, beside the one that a run measured."""

from __future__ import annotations

from dataclasses import dataclass

from lora_cli.errors import EstimateError
from lora_cli.memory.batch_shape import BatchShape
from lora_cli.memory.components import by_phase
from lora_cli.memory.host import kept_on_cpu
from lora_cli.memory.simulate import CannotSimulate, simulate, twice
from lora_cli.plan.run_plan import RunPlan


@dataclass(frozen=True, slots=True)
class Comparison:
    """Bytes of one run; `predicted` is None where nothing could be simulated."""

    measured: int
    """On a GPU, what torch allocated; on a CPU, what the process grew by with its model."""
    predicted: int | None
    """The most that is live at once: the model, and what its steps take."""
    kept: int = 0
    """The most that a process on a CPU has beside it: memory given back that it keeps."""
    why_not: str = ""


def compare_peaks(plan: RunPlan, *, peak: int, before: int, largest: BatchShape) -> Comparison:
    """Return the measured peak of a run and the predicted one of its largest micro batch.

    `before` is the peak before the model was loaded. On a CPU both are the process's, interpreter
    and libraries included, and their difference is compared: it holds what is live, what is kept of
    memory given back, and what else came since, such as an adapter's start or generated answers.
    """
    measured = peak if plan.device.type == "cuda" else peak - before
    try:
        trace = simulate(plan, twice(plan, largest))
    except (CannotSimulate, EstimateError) as error:
        return Comparison(measured, None, why_not=error.problems[0].message)
    live = trace.peak_bytes()
    if plan.device.type == "cuda":
        return Comparison(measured, live)
    step = live - by_phase(trace).get("loading", 0)
    return Comparison(measured, live, kept_on_cpu(plan, step).high)
