"""A subject → what its training needs on a device, as an interval, and whether the device has it.

On a GPU the need is the least capacity under which the allocator's model can replay the step, and
the driver's context on top of it; on a CPU, where there is no caching allocator, the bytes that are
live at once, the libraries, and what the process keeps. No GPU has run any of this: the intervals
say how sure we are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lora_cli.memory.allocator import minimum_capacity, replay, rounded
from lora_cli.memory.batch_shape import BatchShape
from lora_cli.memory.closed_form import closed_form
from lora_cli.memory.components import Group, by_category, by_module, by_phase, largest
from lora_cli.memory.host import LIBRARIES, HostMemory, host_memory, kept_on_cpu
from lora_cli.memory.interval import Interval, exactly
from lora_cli.memory.notes import notes_of
from lora_cli.memory.simulate import CannotSimulate, simulate, twice
from lora_cli.memory.subject import Subject
from lora_cli.memory.trace import Category, Phase, Trace
from lora_cli.plan.run_plan import RunPlan

Method = Literal["simulated", "closed form"]
Verdict = Literal["fits", "tight", "does not fit"]

CONTEXT = Interval(300 << 20, 1343 * 10**6)
"""What the CUDA driver and loaded kernels take outside torch's allocator. It depends on driver and
card and cannot be told from here; the high end is what transformers' documentation measured after
the first kernel (perf_train_gpu)."""
WORKSPACE = 8_519_680
"""cuBLAS's, from torch's allocator: kept from the first product on (4096 KiB × 2 + 16 KiB × 8)."""
UNSURE: dict[str, float] = {"plain": 0.005, "recomputed or quantized": 0.05, "closed form": 0.15}
"""How far the need beyond the weights may be off, as a share: against published peaks of the same
software; not compared with any GPU; by arithmetic alone, and then of the weights too."""
MOST_SHOWN = 12


@dataclass(frozen=True)
class Traced:
    """A step's trace, and how it was come by."""

    trace: Trace
    method: Method
    reason: str = ""
    """Why it was not simulated; empty if it was."""


@dataclass(frozen=True)
class Estimate:
    """What a run needs of its device, all in bytes, and what that is made of."""

    device: str
    capacity: int
    verdict: Verdict
    needed: Interval
    method: Method
    reason: str
    batch: BatchShape
    full_length: bool
    """Whether rows were taken to be of `max_length`, for want of data."""
    allocated: int
    """The most that is live at once, as asked for."""
    reserved: int
    """What the allocator takes where nothing limits it; on a CPU the same."""
    minimum: int
    """The least that the allocator can do with."""
    workspace: int
    outside: Interval
    """The driver's context; on a CPU the libraries, and memory given back that is kept."""
    unsure: float
    peak_phase: Phase
    categories: dict[Category, int]
    phases: dict[Phase, int]
    modules: list[tuple[str, int]]
    largest: list[Group]
    host: HostMemory
    notes: tuple[str, ...]
    """What is not counted, what was left out, and what is odd."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def overhead(self) -> int:
        """Return what the allocator adds: rounding, and room between blocks."""
        return self.minimum - self.allocated - self.workspace


def traced(subject: Subject, *, simulated: bool = True) -> Traced:
    """Return a subject's step on its device: in closed form where it cannot be simulated.

    Raises:
        PlanError: the recipe cannot be planned.
    """
    plan, batch = subject.plan, subject.batch
    if not simulated:
        return Traced(closed_form(plan, subject.facts.base, batch), "closed form", "not asked for")
    try:
        return Traced(simulate(plan, twice(plan, batch)), "simulated")
    except CannotSimulate as error:
        reason = error.problems[0].message
        return Traced(closed_form(plan, subject.facts.base, batch), "closed form", reason)


def estimate(subject: Subject, capacity: int | None = None, *, simulated: bool = True) -> Estimate:
    """Return what a subject needs, against its device's memory or another `capacity`.

    `simulated` says whether to simulate where that is possible, or to take the closed form at once.

    Raises:
        PlanError: the recipe cannot be planned.
    """
    plan, found = subject.plan, traced(subject, simulated=simulated)
    usage = _usage(plan, found)
    on_gpu = plan.device.type == "cuda"
    unsure = _unsure(plan, found.method)
    phases = by_phase(found.trace)
    # what lies there from the start is known to the byte
    held = phases.get("loading", 0) if found.method == "simulated" else 0
    step = usage.minimum - held
    outside = CONTEXT if on_gpu else LIBRARIES["cpu"] + kept_on_cpu(plan, step)
    needed = exactly(held) + exactly(step).widened(unsure) + outside
    room = plan.device.memory_bytes if capacity is None else capacity
    return Estimate(
        device=plan.device.name,
        capacity=room,
        verdict=verdict_of(needed, room),
        needed=needed,
        method=found.method,
        reason=found.reason,
        batch=subject.batch,
        full_length=subject.full_length,
        allocated=found.trace.peak_bytes(),
        reserved=usage.reserved,
        minimum=usage.minimum,
        workspace=usage.workspace,
        outside=outside,
        unsure=unsure,
        peak_phase=found.trace.peak_phase(),
        categories=by_category(found.trace),
        phases=phases,
        modules=by_module(found.trace, MOST_SHOWN),
        largest=largest(found.trace, MOST_SHOWN),
        host=host_memory(plan, subject.facts.base),
        notes=tuple(notes_of(subject)),
        versions=_versions(),
    )


def verdict_of(needed: Interval, capacity: int) -> Verdict:
    """Return `fits` if even the high end does, `does not fit` if not even the low end does."""
    if needed.high <= capacity:
        return "fits"
    return "tight" if needed.low <= capacity else "does not fit"


@dataclass(frozen=True, slots=True)
class _Usage:
    reserved: int
    minimum: int
    workspace: int


def _usage(plan: RunPlan, found: Traced) -> _Usage:
    if plan.device.type == "cpu":
        peak = found.trace.peak_bytes()
        return _Usage(reserved=peak, minimum=peak, workspace=0)
    usage = replay(found.trace, workspace=WORKSPACE)
    return _Usage(
        reserved=usage.reserved,
        minimum=minimum_capacity(found.trace, workspace=WORKSPACE, usage=usage),
        workspace=rounded(WORKSPACE),
    )


def _unsure(plan: RunPlan, method: Method) -> float:
    if method == "closed form":
        return UNSURE["closed form"]
    plain = plan.quantization.method == "none" and not plan.schedule.gradient_checkpointing
    return UNSURE["plain" if plain else "recomputed or quantized"]


def _versions() -> dict[str, str]:
    """Return what was simulated: the packages whose code it is, and their versions."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("torch", "transformers", "peft", "bitsandbytes"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
