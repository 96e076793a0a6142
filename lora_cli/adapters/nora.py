"""NoRA: nested low-rank adaptation. Lin et al. 2024, arXiv 2408.10280 (ICCV 2025).

The inner pair starts without an effect (B zero), where the authors' code starts both at random;
the scales of activations, by which that code weighs the SVD, are left out. The normalised LoRA of
arXiv 2608.31036 has the same name and is another method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.singular_values import decompose, decompose_roughly
from lora_cli.adapters.trained import put_trained_tensors, trained_tensors
from lora_cli.adapters.variant import (
    Evidence,
    Factors,
    Module,
    SavedAdapter,
    Setting,
    Start,
    StartFrom,
)

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

FAST_ITERATIONS = 4


class NoRa(LowRankSpec):
    """W' = W + (alpha / rank)·B₀·B·A·A₀, where B₀·A₀ is the best approximation of W.

    B₀ = U·S and A₀ = Vᵀ of W's first singular values are frozen; trained are A (rank, outer_rank)
    and B (outer_rank, rank), far smaller than a LoRA's. B₀·B and A·A₀ are a plain LoRA of `rank`.
    """

    variant: Literal["nora"] = "nora"
    """The method: a small trained pair nested in a frozen pair of the weight's own directions."""
    rank: int = Field(default=16, ge=1)
    """Rank of the update: the size between the two trained matrices."""
    outer_rank: int = Field(default=64, ge=1)
    """How many of the weight's singular directions the update can use: at most as many as it has.
    The frozen pair is held beside the weight, for its rows and columns times this."""
    svd: Literal["full", "fast"] = "full"
    """`fast`: a randomised SVD, for large models; its last directions are a little off."""

    capability: ClassVar[Capability] = Capability(
        lora_fa="the A that B is multiplied by is a product of two; use adamw"
    )
    learning_rate: ClassVar[float] = 1e-3
    start_from: ClassVar[StartFrom] = "base weights"

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of 2·rank·outer_rank, the outer rank being at most that of the weight."""
        return sum(
            2 * self.rank_of(module.name) * self.highest_rank(module) for module in setting.modules
        )

    def highest_rank(self, module: Module) -> int:
        """Return the outer rank, which the update cannot pass."""
        return min(self.outer_rank, module.in_features, module.out_features)

    def summary(self) -> str:
        """Return variant, ranks, alpha, scaling and dropout."""
        return (
            f"{self.variant}, rank {self.rank} within {self.outer_rank}, "
            f"alpha {self.resolved_alpha:g}, scaling {self.scaling:.4g}, dropout {self.dropout:g}"
            f"{self.and_dtype}"
        )

    def start(self, evidence: Evidence) -> Start:
        """Return the outer pair: A₀ = Vᵀ and B₀ = U·S."""
        weight = evidence.weight
        outer_rank = min(self.outer_rank, *weight.shape)
        if self.svd == "full":
            outer = decompose(weight).part(slice(outer_rank))
        else:
            outer = decompose_roughly(weight, outer_rank, FAST_ITERATIONS)
        # a part of a tensor holds on to the whole: here, to all directions of the weight
        return Start(Factors(a=outer.right.clone(), b=outer.left * outer.values))

    def put_start(self, layer: Any, start: Start) -> None:
        """Nest peft's pair in the outer one: A as peft starts an A, B zero."""
        import torch

        from lora_cli.adapters.nested import Nested

        outer = start.first
        device = layer.lora_A["default"].weight.device
        rank, outer_rank = layer.r["default"], len(outer.a)
        inner_a = torch.empty(rank, outer_rank)
        torch.nn.init.kaiming_uniform_(inner_a, a=math.sqrt(5))
        inner_b = torch.zeros(outer_rank, rank)
        layer.lora_A["default"] = Nested(outer.a, inner_a, outer_first=False).to(device)
        layer.lora_B["default"] = Nested(outer.b, inner_b, outer_first=True).to(device)

    def state(self, model: PeftModel) -> dict[str, torch.Tensor]:
        """Return the inner pairs: the outer ones are the start, which is kept by itself."""
        return trained_tensors(model)

    def load_state(self, model: PeftModel, state: Mapping[str, torch.Tensor]) -> None:
        """Put the inner pairs back."""
        put_trained_tensors(model, state)

    def saved(self, model: PeftModel, _taken: Mapping[str, Factors]) -> SavedAdapter:
        """Return the plain LoRA of the products."""
        from lora_cli.adapters.nested import Nested

        tensors = {
            f"{name.removesuffix('.default')}.weight": module.weight.detach()
            for name, module in model.named_modules()
            if isinstance(module, Nested)
        }
        return SavedAdapter(model.peft_config["default"], tensors)
