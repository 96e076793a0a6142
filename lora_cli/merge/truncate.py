"""The nearest product of small rank: the singular value decomposition, cut off.

No matrix of rank r is nearer in the Frobenius norm than the first r singular vectors with their
values (Eckart and Young 1936); what is lost is the rest of the values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_cli.adapters.variant import Factors

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may be lost: what is beyond a rank, or a share of the norm; by default nothing."""

    rank: int | None = None
    """The highest rank that is wanted."""
    error: float | None = None
    """The largest relative error, in the Frobenius norm."""

    @property
    def given(self) -> bool:
        """Return whether anything may be lost at all."""
        return self.rank is not None or self.error is not None

    def kept(self, values: torch.Tensor) -> int:
        """Return how many of the singular values, largest first, are kept."""
        kept = int((values > 0).sum())
        if self.error is not None:
            lost_from = values.square().flip(0).cumsum(0).flip(0)
            kept = int((lost_from > self.error**2 * values.square().sum()).sum())
        return kept if self.rank is None else min(kept, self.rank)


@dataclass(frozen=True, slots=True)
class Fit:
    """A pair for one module, and how far its product is from the ΔW that it stands for."""

    pair: Factors
    lost: float = 0.0
    """Squared Frobenius norm of ΔW − b·a."""
    total: float = 0.0
    """Squared Frobenius norm of ΔW, where anything may be lost."""

    @property
    def rank(self) -> int:
        """Return the pair's rank."""
        return len(self.pair.a)

    @property
    def error(self) -> float:
        """Return the relative error."""
        return math.sqrt(self.lost / self.total) if self.lost else 0.0


def without_noise(
    values: torch.Tensor, size: int, noise: float, beside: float = 0.0
) -> torch.Tensor:
    """Return singular values, largest first, in float64, with 0 for the last that are but noise.

    Together, and with those that are not among them, whose squares sum up to `beside`, they are no
    more than `noise`, or than what float32 gives a matrix of `size` where the true values are 0:
    each about the largest one's rounding.
    """
    import torch

    values = values.double()
    tail = (values.square().flip(0).cumsum(0).flip(0) + beside).sqrt()
    rounding = float(values[:1].sum()) * math.sqrt(size) * torch.finfo(torch.float32).eps
    return values.where(tail > max(noise, rounding), 0.0)


def fit_factors(pair: Factors, limit: Limit) -> Fit:
    """Return the pair within the limit; itself, if the limit takes nothing away.

    The decomposition is that of a small core: b = Q·R and aᵀ = P·S give b·a = Q·(R·Sᵀ)·Pᵀ.
    """
    import torch

    if not limit.given:
        return Fit(pair)
    left, upper_left = torch.linalg.qr(pair.b.double())
    right, upper_right = torch.linalg.qr(pair.a.double().T)
    core = upper_left @ upper_right.T
    core_left, values, core_right = torch.linalg.svd(core, full_matrices=False)
    # of A − A nothing is left: what is no more than the rounding of its terms has no share to lose
    values[values <= _rounding(pair)] = 0
    kept = limit.kept(values)
    if kept == len(pair.a):
        return Fit(pair, total=float(values.square().sum()))
    return _cut(left @ core_left, values, core_right @ right.T, kept)


def _rounding(pair: Factors) -> float:
    """Return how far off the sum of a pair's rank-1 terms may be, as each is in float32."""
    import torch

    terms = pair.b.double().norm(dim=0) * pair.a.double().norm(dim=1)
    return float(terms.norm() * torch.finfo(torch.float32).eps)


def fit_weight(delta: torch.Tensor, limit: Limit, noise: float = 0.0) -> Fit:
    """Return the pair within the limit for ΔW (out, in); a GPU, if there is one, is much faster.

    No rank is spent on what is no more than `noise`. Where nothing may be lost it is ΔW itself, and
    the identity on its shorter side.
    """
    import torch

    if not limit.given:
        rows, columns = delta.shape
        unit = torch.eye(min(rows, columns))
        return Fit(Factors(delta, unit) if rows <= columns else Factors(unit, delta))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, values, right = torch.linalg.svd(delta.to(device), full_matrices=False)
    values = without_noise(values, len(values), noise)
    return _cut(left, values, right, limit.kept(values))


def _cut(left: torch.Tensor, values: torch.Tensor, right: torch.Tensor, kept: int) -> Fit:
    """Return the first `kept` parts of left·diag(values)·right, the values shared by both sides."""
    root = values[:kept].sqrt()
    lora_a, lora_b = root[:, None] * right[:kept], left[:, :kept] * root
    pair = Factors(lora_a.float().cpu(), lora_b.float().cpu())
    return Fit(pair, float(values[kept:].square().sum()), float(values.square().sum()))
