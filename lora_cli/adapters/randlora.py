"""RandLoRA: full-rank updates from random bases. Albert et al. 2025, arXiv 2502.00987."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import Setting

if TYPE_CHECKING:
    from peft import RandLoraConfig


class RandLora(TargetedSpec):
    """W' = W + (alpha / rank)·Σᵢ Bᵢ·diag(λᵢ)·A·diag(γᵢ): n terms of low rank.

    n is as large as it takes for full rank. The bases Bᵢ and A are random, frozen and shared by all
    modules; trained are λ (rank × n), which starts at zero, and γ (n × the smaller side). The bases
    are saved too, so that a reload is exact on any machine.
    """

    variant: Literal["randlora"] = "randlora"
    """The method: a full-rank sum of scaled random matrices of low rank."""
    rank: int = Field(default=32, ge=1)
    """Rank of one random matrix; a higher one takes fewer of them, and trains less."""
    alpha: float | None = Field(default=None, gt=0)
    """Numerator of the scaling alpha / rank; left out, 20·rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping a module's input while training."""

    capability: ClassVar[Capability] = Capability(exports="approximation")
    learning_rate: ClassVar[float] = 5e-4

    def settled(self, _setting: Setting) -> Self:
        """Return it with alpha filled in."""
        return self.model_copy(update={"alpha": self.alpha or 20.0 * self.rank})

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of n·(rank + m), m = min(in, out) and n = ⌈m / rank⌉."""
        sides = [min(each.in_features, each.out_features) for each in setting.modules]
        return sum(math.ceil(side / self.rank) * (self.rank + side) for side in sides)

    def summary(self) -> str:
        """Return variant, rank, alpha and dropout."""
        return f"randlora, rank {self.rank}, alpha {self.alpha:g}, dropout {self.dropout:g}"

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> RandLoraConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import RandLoraConfig

        return RandLoraConfig(
            task_type=task,
            target_modules=target_modules,
            r=self.rank,
            # peft annotates it as int but only ever divides it
            randlora_alpha=self.alpha,
            randlora_dropout=self.dropout,
            save_projection=True,
        )
