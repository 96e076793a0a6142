"""One optimizer step: gradients of all micro batches, clipped, applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lora_cli.errors import Where
from lora_cli.model.adapter import AttachedAdapter
from lora_cli.step.backward import accumulate_gradients, clip_gradients
from lora_cli.step.first_loss import first_loss_error
from lora_cli.step.guards import check_gradient_norm, check_gradients_reach, check_loss
from lora_cli.tasks.task import Task

if TYPE_CHECKING:
    import torch


class Processes(Protocol):
    """The processes that train together, seen from one of them."""

    @property
    def device(self) -> torch.device:
        """Return this process's device."""

    @property
    def processes(self) -> int:
        """Return how many there are."""

    def backward(self, loss: torch.Tensor) -> None:
        """Add the loss's gradients to the parameters."""

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all of them."""


@dataclass(frozen=True)
class Trainables:
    """What training changes: the adapter's model, the optimizer, the schedule and the scaler."""

    task: Task
    """What is learnt."""
    model: Any
    adapter: AttachedAdapter
    optimizer: Any
    scheduler: Any
    scaler: Any
    """Scales losses so that float16's gradients do not vanish; does nothing in other precisions."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters that are trained."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]


@dataclass(frozen=True, slots=True)
class StepBatches:
    """What one optimizer step learns from."""

    step: int
    micro_batches: Sequence[Any]
    """This process's share."""
    supervised: int
    """Labels of the whole step, over all micro batches and processes."""
    rows: Callable[[], Iterable[tuple[Where, Any]]] = tuple
    """Gives each row's place, and the row as a batch of its own: to find one that is to blame."""


def update(
    trained: Trainables, runtime: Processes, batches: StepBatches, *, max_gradient_norm: float
) -> tuple[float, float]:
    """Do one optimizer step; return its mean loss and the gradient's norm before clipping.

    Raises:
        GuardTrippedError: loss or gradients are not finite or do not arrive; no weight is changed.
    """
    loss, norm = _gradients(trained, runtime, batches, max_gradient_norm)
    while _overflowed(trained, norm):
        trained.optimizer.zero_grad(set_to_none=True)
        trained.scaler.update(trained.scaler.get_scale() / 2)
        loss, norm = _gradients(trained, runtime, batches, max_gradient_norm)
    check_gradient_norm(batches.step, norm)
    trained.scaler.step(trained.optimizer)
    trained.scaler.update()
    trained.adapter.spec.after_step(trained.adapter.model, batches.step)
    trained.scheduler.step()
    trained.optimizer.zero_grad(set_to_none=True)
    return loss, norm


def _overflowed(trained: Trainables, norm: float) -> bool:
    """Return whether a smaller scale may mend the gradients: float16 ends at 65504."""
    scaler = trained.scaler
    return not math.isfinite(norm) and scaler.is_enabled() and scaler.get_scale() > 1


def _gradients(
    trained: Trainables, runtime: Processes, batches: StepBatches, max_gradient_norm: float
) -> tuple[float, float]:
    """Leave the step's clipped gradients on the parameters; return (mean loss, norm before)."""
    loss = _accumulate(trained, runtime, batches)
    if batches.step == 1 and not math.isfinite(loss):
        raise first_loss_error(loss, trained.task, trained.model, batches.rows())
    check_loss(batches.step, loss)
    trained.scaler.unscale_(trained.optimizer)
    if batches.step == 1:
        check_gradients_reach(trained.model.named_parameters())
    return loss, float(clip_gradients(trained.parameters(), max_gradient_norm))


def _accumulate(trained: Trainables, runtime: Processes, batches: StepBatches) -> float:
    """Add up the gradients of the mean loss over all labels; return that loss."""
    import torch

    def backward(loss: torch.Tensor) -> None:
        runtime.backward(trained.scaler.scale(loss))

    total = torch.zeros((), device=runtime.device)
    # data-parallel gradients are averaged over processes: undo that, the loss is a true mean
    scale = runtime.processes / batches.supervised
    for batch in batches.micro_batches:
        total += accumulate_gradients(
            trained.task, trained.model, batch, scale=scale, backward=backward
        )
    penalty = trained.adapter.spec.penalty(trained.adapter.model)
    if penalty is not None:
        backward(penalty)
    return float(runtime.sum(total)) / batches.supervised
