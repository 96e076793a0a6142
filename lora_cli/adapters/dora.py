"""DoRA: weight-decomposed low-rank adaptation. Liu et al. 2024, arXiv 2402.09353, section 4."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.variant import Setting

if TYPE_CHECKING:
    from peft import LoraConfig


class Dora(LowRankSpec):
    """W' = m·(W + (alpha / rank)·B·A) / ‖W + (alpha / rank)·B·A‖, row by row (equation 5).

    Trained are A, B and the magnitudes m, one a row, which start as W's own; the norm below is a
    constant to the gradient (section 4.3).
    """

    variant: Literal["dora"] = "dora"
    """The method: LoRA on each row's direction, and its magnitude beside it."""

    capability: ClassVar[Capability] = Capability(
        bfloat16="its magnitudes learn in smaller steps than bfloat16 has, and most would stay as "
        "they start",
        lora_fa="it corrects B for a weight that B·A is added to, and here the sum is scaled; "
        "use adamw",
        exports="approximation",
    )

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of rank·(in + out) + out: one magnitude a row."""
        magnitudes = sum(module.out_features for module in setting.modules)
        return super().trainable_parameters(setting) + magnitudes

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> LoraConfig:
        """Return peft's configuration for exactly these modules."""
        config = super().peft_config(target_modules, task=task)
        config.use_dora = True
        return config
