"""Evidence for the start of one module, made of bare tensors; and what a start comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lora_cli.adapters.variant import Evidence, Factors


def evidence(
    weight: torch.Tensor,
    *,
    rank: int = 4,
    scaling: float = 2.0,
    requantized: Callable[[torch.Tensor], torch.Tensor] = lambda weight: weight,
    inputs: torch.Tensor | None = None,
    gradient: torch.Tensor | None = None,
) -> Evidence:
    """Return evidence for a module with this (out, in) weight."""
    return Evidence(weight, rank, scaling, requantized, inputs=inputs, gradient=gradient)


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Return a matrix of normal numbers."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def with_values(rows: int, columns: int, values: list[float]) -> torch.Tensor:
    """Return a matrix with these singular values."""
    left = torch.linalg.qr(matrix(rows, len(values), seed=1)).Q
    right = torch.linalg.qr(matrix(columns, len(values), seed=2)).Q
    return left * torch.tensor(values) @ right.T


def product(pair: Factors) -> torch.Tensor:
    """Return b · a."""
    return pair.b @ pair.a


def peft_pair(layer: Any) -> Factors:
    """Return the pair that a layer of peft holds."""
    return Factors(
        a=layer.lora_A["default"].weight.detach(), b=layer.lora_B["default"].weight.detach()
    )


def smallest_cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the cosine of the largest angle between the spaces of two matrices' rows."""
    mine, theirs = (torch.linalg.qr(each.T).Q for each in (one, other))
    return float(torch.linalg.svdvals(mine.T @ theirs).min())
