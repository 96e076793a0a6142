"""Forward and backward of one micro batch, and what the optimizer step does with the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lora_cli.tasks.task import Task

if TYPE_CHECKING:
    import torch


def accumulate_gradients(
    task: Task,
    model: torch.nn.Module,
    batch: Any,
    *,
    scale: float,
    backward: Callable[[torch.Tensor], None],
) -> torch.Tensor:
    """Add the gradients of scale · (summed loss) to the model's; return the summed loss, detached.

    With scale = 1 / (labels of the whole step), the gradients of all micro batches add
    up to those of the unsplit batch.
    """
    scored = task.score(model, batch)
    backward(scored.loss_sum * scale)
    return scored.loss_sum.detach()


def clip_gradients(parameters: list[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradients down to `max_norm` if their joint norm is larger; return that norm."""
    import torch

    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
