"""LoHa: a Hadamard product of two low-rank matrices. Hyeon-Woo et al. 2021, arXiv 2108.06098."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.products import ProductSpec
from lora_cli.adapters.variant import Setting

if TYPE_CHECKING:
    from peft import LoHaConfig


class LoHa(ProductSpec):
    """W' = W + (alpha / rank)·(B₁·A₁) ⊙ (B₂·A₂) (FedPara, proposition 1): a rank of up to rank².

    A₂ starts at zero, the others are random.
    """

    variant: Literal["loha"] = "loha"
    """The method: an elementwise product of two low-rank updates."""

    capability: ClassVar[Capability] = Capability(
        four_bit="no code for packed weights: use lora, vera or miss, or an int8 base",
        conv1d="no code for weights held as (in, out): use lora or vera, or an int8 base",
        exports="rank squared",
    )

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of 2·rank·(in + out): two factors of two matrices."""
        return sum(
            2 * self.rank * (each.in_features + each.out_features) for each in setting.modules
        )

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
