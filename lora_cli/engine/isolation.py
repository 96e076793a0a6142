"""The proof that a run's own model reads each document of a pack as if it were alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_cli.errors import RunError
from lora_cli.step.evaluating import evaluating

if TYPE_CHECKING:
    import torch

EXACT, ROUNDED = 1e-3, 0.2
"""Differences of logits, as a share of how much they vary: in float32, and in less precision, where
the same sum in another shape is rounded otherwise. A leak moves them by as much as they vary."""


def check_isolation(model: Any, *, dtype: str, device: torch.device) -> None:
    """Read a document behind two others, and alone, and compare what is predicted.

    Raises:
        RunError: what stands before it in a row, or where it stands, makes a difference.
    """
    import torch

    document = torch.arange(12, device=device) % 5
    with evaluating(model):
        alone = model(
            input_ids=document[None],
            attention_mask=torch.ones_like(document)[None],
            use_cache=False,
        ).logits[0]
        behind = [_behind(model, torch.full_like(document, token), document) for token in (1, 2)]
    limit = EXACT if dtype == "float32" else ROUNDED
    difference = max(_difference(each, alone) for each in behind)
    if not difference <= limit:
        message = f"documents of a pack read each other: logits differ by {difference:.2g}"
        hint = (
            "set training.batching to length_grouped; this is worth an issue with the model's name"
        )
        raise RunError(f"{message} of their deviation (at most {limit:g})", hint=hint)


def _behind(model: Any, other: torch.Tensor, document: torch.Tensor) -> torch.Tensor:
    """Return the logits of a document behind another in one row."""
    import torch

    positions = torch.arange(len(document), device=document.device).repeat(2)
    row = torch.cat((other, document))[None]
    logits: torch.Tensor = model(
        input_ids=row, position_ids=positions[None], use_cache=False
    ).logits
    return logits[0, len(other) :]


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the root of the mean squared difference, over the standard deviation."""
    return float((one - other).float().pow(2).mean().sqrt() / other.float().std())
