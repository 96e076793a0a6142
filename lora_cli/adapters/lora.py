"""LoRA: low-rank adaptation. Hu et al. 2021, arXiv 2106.09685, section 4.1."""

from typing import ClassVar, Literal

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import LowRankSpec


class Lora(LowRankSpec):
    """W' = W + (alpha / rank)·B·A; A random, B zero at the start, W frozen."""

    variant: Literal["lora"] = "lora"
    """The method: plain LoRA, scaled by alpha / rank."""

    capability: ClassVar[Capability] = Capability(experts="", embeddings="")
