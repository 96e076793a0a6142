"""VeRA: vector-based random matrix adaptation. Kopiczko et al. 2023, arXiv 2310.11454."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import Setting

if TYPE_CHECKING:
    from peft import VeraConfig


class Vera(TargetedSpec):
    """W' = W + diag(b)·B·diag(d)·A (equation 2): A and B random, frozen and shared by all modules.

    Trained are b (out), which starts at zero, and d (rank). A and B are as large as the largest
    module needs, the others take a part of them; they are saved too, so that a reload is exact on
    any machine.
    """

    variant: Literal["vera"] = "vera"
    """The method: two vectors a module around shared random matrices."""
    rank: int = Field(default=256, ge=1)
    """Rank of the random matrices; a higher one costs one trained number a module."""
    d_initial: float = Field(default=0.1, gt=0)
    """What the vector d starts as."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an input of A while training."""

    capability: ClassVar[Capability] = Capability(exports="rank")
    learning_rate: ClassVar[float] = 1e-2

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of rank + out: the vectors d and b of each module."""
        return sum(self.rank + each.out_features for each in setting.modules)

    def summary(self) -> str:
        """Return variant, rank and dropout."""
        return f"vera, rank {self.rank}, dropout {self.dropout:g}"

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> VeraConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import VeraConfig

        return VeraConfig(
            task_type=task,
            target_modules=target_modules,
            r=self.rank,
            d_initial=self.d_initial,
            vera_dropout=self.dropout,
            save_projection=True,
        )
