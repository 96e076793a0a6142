"""A loss that is not finite before anything is learnt, and what is to blame for it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lora_cli.errors import GuardTrippedError, Where

if TYPE_CHECKING:
    from lora_cli.tasks.task import Task

_PRECISION = "train in another precision, such as `model.dtype: float32`"


def first_loss_error(
    loss: float, task: Task, model: Any, rows: Iterable[tuple[Where, Any]]
) -> GuardTrippedError:
    """Return why the first step's loss is not finite; `rows` are its rows, each with its batch."""
    message = f"the loss of step 1 is {loss} before anything is learnt"
    if tensor := _first_bad_tensor(model):
        hint = "fetch the weights again, or name another `model.name`"
        return GuardTrippedError(f"{message}: the base's `{tensor}` is not finite", hint=hint)
    if (where := _first_bad_row(task, model, rows)) is not None:
        message += ": the base itself gives it for this row"
        return GuardTrippedError(message, where, f"look at the row, or {_PRECISION}")
    return GuardTrippedError(f"{message}: the base itself gives it", hint=_PRECISION)


def _first_bad_tensor(model: Any) -> str:
    """Return the base's own name of its first tensor that is not finite, or an empty text."""
    for name, tensor in model.named_parameters():
        frozen = not tensor.requires_grad and tensor.is_floating_point()
        if frozen and not tensor.isfinite().all():
            return str(name).removeprefix("base_model.model.").replace(".base_layer.", ".")
    return ""


def _first_bad_row(task: Task, model: Any, rows: Iterable[tuple[Where, Any]]) -> Where | None:
    import torch

    with torch.no_grad():
        for where, batch in rows:
            if not math.isfinite(float(task.score(model, batch).loss_sum)):
                return where
    return None
