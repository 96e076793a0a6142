"""What LoHa and LoKr share: two factors of low rank, scaled by alpha / rank."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field

from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import Setting


class ProductSpec(TargetedSpec):
    """Fields shared by the variants that multiply two factors, elementwise or Kronecker's way."""

    rank: int = Field(default=8, ge=1)
    """Rank of each factor, where it is one of low rank."""
    alpha: float | None = Field(default=None, gt=0)
    """Numerator of the scaling alpha / rank; left out, the rank."""

    learning_rate: ClassVar[float] = 4e-3

    def settled(self, _setting: Setting) -> Self:
        """Return it with alpha filled in."""
        return self.model_copy(update={"alpha": self.alpha or float(self.rank)})

    def summary(self) -> str:
        """Return variant, rank and alpha."""
        return f"{self.variant}, rank {self.rank}, alpha {self.alpha:g}"
