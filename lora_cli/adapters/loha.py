"""LoHa: a Hadamard product of two low-rank matrices. Hyeon-Woo et al. 2021, arXiv 2108.06098."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from lora_cli.adapters.capability import NOT_FOLDED, Capability
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import Setting

if TYPE_CHECKING:
    from peft import LoHaConfig


class LoHa(TargetedSpec):
    """W' = W + (alpha / rank)·(B₁·A₁) ⊙ (B₂·A₂) (FedPara, proposition 1): a rank of up to rank².

    A₂ starts at zero, the others are random.
    """

    variant: Literal["loha"] = "loha"
    """The method: an elementwise product of two low-rank updates."""
    rank: int = Field(default=8, ge=1)
    """Rank of each of the two factors."""
    alpha: float | None = Field(default=None, gt=0)
    """Numerator of the scaling alpha / rank; left out, the rank."""

    capability: ClassVar[Capability] = Capability(
        four_bit="no code for packed weights: use lora, vera or miss, or an int8 base",
        conv1d="no code for weights held as (in, out): use lora or vera, or an int8 base",
        merge=NOT_FOLDED,
        exports="approximation",
    )
    learning_rate: ClassVar[float] = 4e-3

    def settled(self, _setting: Setting) -> Self:
        """Return it with alpha filled in."""
        return self.model_copy(update={"alpha": self.alpha or float(self.rank)})

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of 2·rank·(in + out): two factors of two matrices."""
        return sum(
            2 * self.rank * (each.in_features + each.out_features) for each in setting.modules
        )

    def summary(self) -> str:
        """Return variant, rank and alpha."""
        return f"loha, rank {self.rank}, alpha {self.alpha:g}"

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> LoHaConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import LoHaConfig

        return LoHaConfig(
            task_type=task,
            target_modules=target_modules,
            r=self.rank,
            # peft annotates it as int but only ever divides it
            alpha=self.alpha,
        )
