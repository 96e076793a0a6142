"""Forward and backward of one micro batch, and what the optimizer step does with the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lora_cli.tasks.causal_lm import Batch, score

if TYPE_CHECKING:
    import torch


def accumulate_gradients(
    model: torch.nn.Module,
    batch: Batch,
    *,
    scale: float,
    backward: Callable[[torch.Tensor], None],
) -> torch.Tensor:
    """Add the gradients of scale · (summed loss) to the model's; return the summed loss, detached.

    With scale = 1 / (supervised tokens of the whole step), the gradients of all micro batches add
    up to those of the unsplit batch.
    """
    scored = score(model, batch)
    backward(scored.loss_sum * scale)
    return scored.loss_sum.detach()


def clip_gradients(parameters: list[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradients down to `max_norm` if their joint norm is larger; return that norm."""
    import torch

    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
