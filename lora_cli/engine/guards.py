"""Stops a run that would only waste the night, with a diagnosis, before harm is written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lora_cli.errors import GuardTrippedError

if TYPE_CHECKING:
    import torch


def check_finite(step: int, *, loss: float, gradient_norm: float) -> None:
    """Raise if a step's loss or gradient is not a number: the weights are still the last good ones.

    Raises:
        GuardTrippedError: naming what is not finite.
    """
    if not math.isfinite(loss):
        hint = "lower training.learning_rate, or train in bfloat16 or float32"
        raise GuardTrippedError(f"the loss of step {step} is {loss}", hint=hint)
    if not math.isfinite(gradient_norm):
        hint = "lower training.learning_rate or raise training.warmup_ratio"
        raise GuardTrippedError(f"the gradient norm of step {step} is {gradient_norm}", hint=hint)


def check_gradients_reach(parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> None:
    """Raise unless the first backward pass reached every trainable parameter.

    Raises:
        GuardTrippedError: naming the first that got no gradient.
    """
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    unreached = [name for name, parameter in named if parameter.grad is None]
    if unreached:
        message = f"{len(unreached)} of {len(named)} adapter tensors get no gradient"
        raise GuardTrippedError(f"{message}, among them `{unreached[0]}`")
    if all(not bool(parameter.grad.any()) for _, parameter in named if parameter.grad is not None):
        raise GuardTrippedError("every gradient of the first step is zero: nothing would be learnt")
