"""LoRA-GA: gradient approximation. Wang et al. 2024, arXiv 2407.05000, section 3."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import DataStartSpec
from lora_cli.adapters.residual import ResidualSpec
from lora_cli.adapters.singular_values import decompose
from lora_cli.adapters.variant import Evidence, Factors, Module, Start, StartFrom

_QUANTIZED = (
    "a weight in integers has no gradient to start from; use eva, which starts from the inputs, "
    "or pissa, which starts from the weights"
)


class LoraGa(ResidualSpec, DataStartSpec):
    """A and B start where the first step changes B·A as full fine-tuning would change W.

    The base gives up s·B·A: the model starts as it was.
    """

    variant: Literal["lora_ga"] = "lora_ga"
    """The method: LoRA on the singular vectors of the weight's gradient."""
    gamma: float = Field(default=16.0, gt=0)
    """γ of the stable scale ⁴√out / √γ of A's rows and B's columns: a larger one starts smaller."""

    capability: ClassVar[Capability] = Capability(
        four_bit=_QUANTIZED, eight_bit=_QUANTIZED, exports="twice the rank"
    )
    start_from: ClassVar[StartFrom] = "gradients"

    def highest_rank(self, module: Module) -> int | None:
        """Return half the gradient's rank: A and B take different singular vectors."""
        return min(module.in_features, module.out_features) // 2

    def start(self, evidence: Evidence) -> Start:
        """Return A = c·Vᵀ[:r], B = c·U[:, r:2r] of the gradient, c = ⁴√out / √γ.

        The singular values stay out of it: how large a gradient is says nothing of the scale.
        """
        assert evidence.gradient is not None, "it starts from gradients"
        rank, size = evidence.rank, evidence.weight.shape[0] ** 0.25 / self.gamma**0.5
        left, _values, right = decompose(evidence.gradient)
        part = Factors(a=size * right[:rank], b=size * left[:, rank : 2 * rank])
        return Start(part, taken=part)
