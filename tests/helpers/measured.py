"""Steps of a plan for real on the CPU, every allocation noted: what simulations are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from lora_cli.engine.prepare import build_trainables, planned_weights
from lora_cli.engine.runtime import Runtime
from lora_cli.events import unheard
from lora_cli.memory.batch_shape import BatchShape, batch_of
from lora_cli.memory.meta_model import named_tensors
from lora_cli.memory.simulate import per_step, simulate
from lora_cli.memory.trace import Trace
from lora_cli.plan.run_plan import RunPlan
from lora_cli.step.update import StepBatches, Trainables, update
from tests.helpers.tiny_models import make_config, make_tokenizer


@dataclass(frozen=True)
class Growth:
    """Bytes of a model as it is loaded, and the most that steps allocate beside it."""

    loaded: int
    steps: int

    @property
    def peak(self) -> int:
        return self.loaded + self.steps


def predicted(plan: RunPlan, shapes: Sequence[BatchShape]) -> Growth:
    """Return what a simulation says of a plan without evaluation."""
    trace = simulate(plan, shapes)
    loaded = loaded_bytes(trace)
    return Growth(loaded, trace.peak_bytes() - loaded)


def loaded_bytes(trace: Trace) -> int:
    """Return the bytes that are there when the first step begins."""
    first = next(event for event, phase in trace.phases if phase != "loading")
    sizes = [storage.size for storage in trace.storages]
    return sum(sizes[each] if each >= 0 else -sizes[~each] for each in trace.events[:first])


def measured(plan: RunPlan, shapes: Sequence[BatchShape]) -> Growth:
    """Return what torch's allocator counts on the CPU."""
    runtime = Runtime(device="cpu", processes=1)
    trained = build_trainables(plan, planned_weights(plan), runtime, unheard)
    trained.model.train()
    loaded = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for _, tensor in named_tensors(trained.model)
    }
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        _train(plan, shapes, trained, runtime)
    events = [
        event
        for event in profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
        if event.name() == "[memory]"
    ]
    events.sort(key=lambda event: event.start_ns())
    return Growth(sum(loaded.values()), max(accumulate(event.nbytes() for event in events)))


def _train(
    plan: RunPlan, shapes: Sequence[BatchShape], trained: Trainables, runtime: Runtime
) -> None:
    count = per_step(plan)
    for step, first in enumerate(range(0, len(shapes), count), start=1):
        batches = [batch_of(plan, shape, runtime.device) for shape in shapes[first : first + count]]
        given = StepBatches(step, batches, supervised=1)
        update(trained, runtime, given, max_gradient_norm=plan.schedule.max_gradient_norm)
        del batches, given


def make_sized_model(folder: Path, architecture: str = "llama", **sizes: Any) -> Path:
    """Write a random causal model with other sizes than the tiny one; return its folder."""
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer()
    config = make_config(architecture, len(tokenizer))
    for name, size in sizes.items():
        setattr(config, name, size)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
