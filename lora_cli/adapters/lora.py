"""LoRA: low-rank adaptation. Hu et al. 2021, arXiv 2106.09685, section 4.1."""

from typing import Literal

from lora_cli.adapters.low_rank import LowRankSpec


class Lora(LowRankSpec):
    """W' = W + (alpha / rank)·B·A; A random, B zero at the start, W frozen."""

    variant: Literal["lora"] = "lora"
    """The method: plain LoRA, scaled by alpha / rank."""

    @property
    def resolved_alpha(self) -> float:
        """Return alpha, by default 2·rank: the scaling is then 2 at any rank."""
        return self.alpha if self.alpha is not None else 2.0 * self.rank
