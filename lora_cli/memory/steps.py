"""Optimizer steps and an evaluation batch of a plan, in the phases that a trace tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from lora_cli.memory.batch_shape import BatchShape, batch_of, longest_evaluation
from lora_cli.memory.tracker import Storages
from lora_cli.model.adapter import AttachedAdapter
from lora_cli.plan.run_plan import RunPlan
from lora_cli.step.evaluating import evaluating
from lora_cli.step.ready import make_ready
from lora_cli.step.update import StepBatches, Trainables, update

if TYPE_CHECKING:
    import torch


PAGED = 100_000
"""Numbers of the smallest tensor whose state bitsandbytes 0.50 keeps in pages, if it pages."""


def per_step(plan: RunPlan) -> int:
    """Return how many micro batches a simulated step has: two where the plan accumulates.

    The third and all that follow allocate as the second does, beside the gradients of those before.
    """
    return min(2, plan.schedule.gradient_accumulation_steps)


def twice(plan: RunPlan, shape: BatchShape) -> list[BatchShape]:
    """Return two steps of one shape.

    In the first the optimizer gets its state, and the second is as all others are.
    """
    return [shape] * (2 * per_step(plan))


class OneProcess:
    """Stands in for accelerate: one process on the meta device, its backward pass in its phase."""

    processes = 1

    def __init__(self, storages: Storages, model: Any) -> None:
        import torch

        self.device = torch.device("meta")
        self._storages = storages
        self._model = model

    def backward(self, loss: torch.Tensor) -> None:
        """Add the loss's gradients to the parameters, and call them what they are."""
        self._storages.enter("backward")
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = (parameter.grad for parameter in self._model.parameters())
        self._storages.call((each for each in gradients if each is not None), "gradients")
        self._storages.enter("optimizer")

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum over one process."""
        return value


def run_steps(
    plan: RunPlan, shapes: Sequence[BatchShape], adapter: AttachedAdapter, storages: Storages
) -> None:
    """Train on micro batches of these shapes, then evaluate if the plan does."""
    process = OneProcess(storages, adapter.model)
    trained = _trainables(plan, adapter)
    if plan.optimizer.paged and plan.device.type == "cuda":
        _page(trained.optimizer, storages)
    phases = _phases_noted(trained.model, storages)
    for step, first in enumerate(range(0, len(shapes), per_step(plan)), start=1):
        storages.enter("forward")
        batches = [
            batch_of(plan, shape, process.device)
            for shape in shapes[first : first + per_step(plan)]
        ]
        given = StepBatches(step, batches, supervised=1)
        update(trained, process, given, max_gradient_norm=plan.schedule.max_gradient_norm)
        del batches, given
        storages.call(_states(trained.optimizer), "optimizer")
    for phase in phases:
        phase.remove()
    _evaluate(plan, trained, storages)


def _trainables(plan: RunPlan, adapter: AttachedAdapter) -> Trainables:
    import torch
    from transformers import get_scheduler

    model = adapter.model
    model.train()
    make_ready(
        model,
        gradient_checkpointing=plan.schedule.gradient_checkpointing,
        packed=plan.schedule.batching == "packed",
        attention=plan.model.attention,
    )
    parameters = dict(model.named_parameters())
    optimizer = plan.optimizer.build(parameters, plan.schedule.learning_rate)
    # float16's loss scale is one number, and without true values no gradient overflows
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    scheduler = get_scheduler("constant", optimizer)
    return Trainables(plan.task, model, adapter, optimizer, scheduler, scaler)


def _page(optimizer: Any, storages: Storages) -> None:
    """Keep what a GPU's paged optimizer has in pages out of the device's memory."""
    make = optimizer.get_state_buffer

    def state(parameter: torch.Tensor, dtype: Any = None) -> torch.Tensor:
        with storages.elsewhere() if parameter.numel() >= PAGED else nullcontext():
            made: torch.Tensor = make(parameter, dtype=dtype)
        return made

    optimizer.get_state_buffer = state


def _phases_noted(model: Any, storages: Storages) -> list[Any]:
    """Note where a forward pass begins, and the computation of the loss after it."""
    begins = model.register_forward_pre_hook(lambda *_: storages.enter("forward"))
    ends = model.register_forward_hook(lambda *_: storages.enter("loss"))
    return [begins, ends]


def _states(optimizer: Any) -> list[torch.Tensor]:
    import torch

    states = optimizer.state.values()
    found = [value for state in states for value in state.values()]
    return [each for each in found if isinstance(each, torch.Tensor) and each.is_meta]


def _evaluate(plan: RunPlan, trained: Trainables, storages: Storages) -> None:
    import torch

    shape = longest_evaluation(plan)
    if shape is None:
        return
    with storages.during("evaluation"), evaluating(trained.model):
        batch = batch_of(plan, shape, torch.device("meta"), packs=False)
        trained.task.score(trained.model, batch)
