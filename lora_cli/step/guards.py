"""Stops a run that would only waste the night, with a diagnosis, before harm is written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lora_cli.errors import GuardTrippedError

if TYPE_CHECKING:
    import torch


def check_loss(step: int, loss: float) -> None:
    """Raise if a step's loss is not a number: the weights are still the last good ones.

    Raises:
        GuardTrippedError: saying which step.
    """
    if not math.isfinite(loss):
        hint = "lower training.learning_rate, or train in bfloat16 or float32"
        raise GuardTrippedError(f"the loss of step {step} is {loss}", hint=hint)


def check_gradient_norm(step: int, norm: float) -> None:
    """Raise if a step's gradient is not a number: the weights are still the last good ones.

    Raises:
        GuardTrippedError: saying which step.
    """
    if not math.isfinite(norm):
        hint = "lower training.learning_rate or raise training.warmup_ratio"
        if step == 1:  # nothing has been learnt at any rate
            hint = "train in another precision, such as `model.dtype: float32`"
        raise GuardTrippedError(f"the gradient norm of step {step} is {norm}", hint=hint)


def check_evaluation_loss(step: int, loss: float) -> None:
    """Raise if an evaluation's loss is not a number: it could not be compared with any other.

    Raises:
        GuardTrippedError: saying after which step.
    """
    if not math.isfinite(loss):
        message = f"the evaluation loss after step {step} is {loss}"
        raise GuardTrippedError(message, hint="lower training.learning_rate")


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
