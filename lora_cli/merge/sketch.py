"""The nearest pair for a ΔW of any size: exact where that is quick, else from a random sketch.

A sketch finds the space of the largest singular values without computing all of them (Halko,
Martinsson and Tropp 2011, arXiv 0909.4061, algorithms 4.4 and 5.1). How good its pair is does not
rest on that: what the sketch leaves out is measured, and counts in the error and as noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_cli.adapters.variant import Factors
from lora_cli.merge.truncate import Fit, Limit, fit_weight, without_noise

if TYPE_CHECKING:
    import torch

EXACT_SIZE = 512
"""Matrices no wider than this on one side are decomposed in full: it takes half a second."""
LEAST_OVERSAMPLING = 16
ROUNDING = 1e-6
"""How much float32 leaves of a ΔW that the sketch found whole, as a share of its norm."""
POWER_ITERATIONS = 3
"""Each sharpens the sketch for values that fall off slowly, as those of full tuning do."""


def nearest_pair(delta: torch.Tensor, limit: Limit, noise: float = 0.0) -> Fit:
    """Return the pair within the limit for ΔW (out, in), float32, which may be overwritten.

    No rank is spent on what is no more than `noise`. Where only an error is asked for, any number
    of values may be needed: all are computed.
    """
    size = min(delta.shape)
    if limit.rank is None or size <= EXACT_SIZE or 2 * _width(limit.rank) >= size:
        return fit_weight(delta, limit, noise)
    return _from_sketch(delta, limit, limit.rank, noise)


def _width(rank: int) -> int:
    return rank + max(rank, LEAST_OVERSAMPLING)


def _from_sketch(delta: torch.Tensor, limit: Limit, rank: int, noise: float) -> Fit:
    """Return the pair of the part of ΔW that the sketch finds; with Q its basis, Q·Qᵀ·ΔW."""
    import torch

    delta = delta.to("cuda" if torch.cuda.is_available() else "cpu")
    total = squared_norm(delta)
    basis = _basis(delta, _width(rank))
    right, upper = torch.linalg.qr(delta.T @ basis)
    core_left, values, core_right = torch.linalg.svd(upper.T)
    delta.addmm_(basis, upper.T @ right.T, alpha=-1)
    beside = squared_norm(delta)
    is_rounding = beside <= ROUNDING**2 * total
    values = without_noise(values, min(delta.shape), noise, 0.0 if is_rounding else beside)
    kept = _kept(values[:rank], total, limit)
    root = values[:kept].float().sqrt()
    lora_a = root[:, None] * (core_right[:kept] @ right.T)
    lora_b = basis @ core_left[:, :kept] * root
    lost = float(values[kept:].square().sum()) + beside
    return Fit(Factors(lora_a.cpu(), lora_b.cpu()), lost if lost > noise**2 else 0.0, total)


def squared_norm(matrix: torch.Tensor) -> float:
    """Return the squared Frobenius norm, row by row in float32, all rows together in float64."""
    import torch

    rows = matrix if matrix.is_contiguous() else matrix.T  # as they lie in memory
    return float(torch.linalg.vector_norm(rows, dim=-1).double().square().sum())


def _basis(delta: torch.Tensor, width: int) -> torch.Tensor:
    """Return (out, width) orthonormal columns that span most of what ΔW maps to."""
    import torch

    generator = torch.Generator().manual_seed(0)
    sketch = torch.randn(delta.shape[1], width, generator=generator).to(delta.device)
    basis: torch.Tensor = torch.linalg.qr(delta @ sketch).Q
    for _ in range(POWER_ITERATIONS):
        basis = torch.linalg.qr(delta.T @ basis).Q
        basis = torch.linalg.qr(delta @ basis).Q
    return basis


def _kept(values: torch.Tensor, total: float, limit: Limit) -> int:
    """Return how many of the first values are needed to be within the limit's error, if any."""
    values = values[values > 0]
    if limit.error is None:
        return len(values)
    lost = (total - values.square().cumsum(0)).tolist()
    return sum(each > limit.error**2 * total for each in [total, *lost[:-1]])
