"""Singular value decompositions that starts are made from; the same values at every call.

This module does not know which matrix is taken apart, or what for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lora_cli.adapters.variant import Factors

if TYPE_CHECKING:
    import torch

OVERSAMPLING = 8
"""Directions that a randomised decomposition follows beyond those it is asked for."""


class SingularValues(NamedTuple):
    """left · diag(values) · right, values falling; left (out, n), values (n), right (n, in)."""

    left: torch.Tensor
    values: torch.Tensor
    right: torch.Tensor

    def part(self, which: slice) -> SingularValues:
        """Return some of the triples."""
        return SingularValues(self.left[:, which], self.values[which], self.right[which])

    def factors(self, scaling: float) -> Factors:
        """Return a and b of equal size with scaling · b · a = left · diag(values) · right."""
        root = (self.values / scaling).sqrt()
        return Factors(a=root[:, None] * self.right, b=self.left * root)


def decompose(matrix: torch.Tensor) -> SingularValues:
    """Return all triples of an (out, in) matrix."""
    import torch

    return SingularValues(*torch.linalg.svd(matrix, full_matrices=False))


def decompose_roughly(matrix: torch.Tensor, count: int, iterations: int) -> SingularValues:
    """Return about the first `count` triples of an (out, in) matrix, at a cost of `count`.

    Halko, Martinsson & Tropp 2011, arXiv 0909.4061, algorithms 4.4 and 5.1: the matrix is looked
    at where random directions end up after `iterations` power iterations. The directions are always
    the same ones, and are drawn beside torch's own random state.
    """
    import torch

    generator = torch.Generator(matrix.device).manual_seed(0)
    shape = (matrix.shape[1], min(count + OVERSAMPLING, *matrix.shape))
    directions = torch.randn(shape, generator=generator, device=matrix.device)
    basis = torch.linalg.qr(matrix @ directions).Q
    for _ in range(iterations):
        basis = torch.linalg.qr(matrix.T @ basis).Q
        basis = torch.linalg.qr(matrix @ basis).Q
    left, values, right = decompose(basis.T @ matrix)
    return SingularValues(basis @ left, values, right).part(slice(count))
