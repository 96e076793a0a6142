"""The layer of a nested LoRA: its weight is a product, of which one factor is trained.

Imported only where a model is built: this module needs torch from its first line.
"""

from __future__ import annotations

import torch
from torch.nn import functional


class Nested(torch.nn.Module):
    """A linear layer without bias whose weight is a frozen outer and a trained inner factor."""

    outer: torch.Tensor

    def __init__(self, outer: torch.Tensor, inner: torch.Tensor, *, outer_first: bool) -> None:
        """Take both factors; `outer_first` says that the weight is outer·inner, not inner·outer."""
        super().__init__()
        self.register_buffer("outer", outer)
        self.inner = torch.nn.Parameter(inner)
        self.outer_first = outer_first

    @property
    def weight(self) -> torch.Tensor:
        """Return the product: what a plain LoRA would hold as its A or B."""
        return self.outer @ self.inner if self.outer_first else self.inner @ self.outer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs·weightᵀ."""
        return functional.linear(inputs, self.weight)
