"""rsLoRA: rank-stabilised LoRA. Kalajdzievski 2023, arXiv 2312.03732, theorem 3.2."""

from typing import ClassVar, Literal

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import LowRankSpec


class RsLora(LowRankSpec):
    """W' = W + (alpha / √rank)·B·A: activations and gradients keep their size as rank grows."""

    variant: Literal["rslora"] = "rslora"
    """The method: rank-stabilised LoRA, scaled by alpha / √rank."""

    capability: ClassVar[Capability] = Capability(experts="", embeddings="")
    rank_stabilised: ClassVar[bool] = True
    scaling_formula: ClassVar[str] = "alpha / √rank"

    @property
    def resolved_alpha(self) -> float:
        """Return alpha, by default 16 at every rank: √rank alone follows the rank."""
        return self.alpha if self.alpha is not None else 16.0
