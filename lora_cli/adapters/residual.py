"""Low-rank variants that start from a part of the weight, which the base gives up for it.

W = (W − s·B₀·A₀) + s·B₀·A₀: the model starts as it was, and training moves the part. The base that
everyone has is W, so such an adapter is saved as the plain LoRA s·(B·A − B₀·A₀) of twice the rank.
It is the model that was trained, to the rounding of W − s·B₀·A₀ in the base's dtype.

A base that is quantized after it gave up the part is one that nobody else has. It is written beside
the adapter, which is then saved as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.variant import Factors, Module, SavedAdapter, StartFrom

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel


class ResidualSpec(LowRankSpec):
    """Fields shared by the variants that start from a part of the weight."""

    capability: ClassVar[Capability] = Capability(exports="twice the rank")
    start_from: ClassVar[StartFrom] = "original weights"

    @property
    def takes_from_base(self) -> bool:
        """Return that the base's weights give the part up."""
        return True

    def highest_rank(self, module: Module) -> int | None:
        """Return the rank of the weight itself: there is no larger part of it."""
        return min(module.in_features, module.out_features)

    def saved(self, model: PeftModel, taken: Mapping[str, Factors]) -> SavedAdapter:
        """Return the plain LoRA of twice the rank: A over A₀, B beside −B₀, the same scaling.

        Where nothing is to be put back (`taken` is empty), it is returned as it is.
        """
        import torch

        plain = super().saved(model, taken)
        if not taken:
            return plain
        tensors: dict[str, torch.Tensor] = {}
        for name, tensor in plain.tensors.items():
            part = taken.get(name.removeprefix("base_model.model.").rpartition(".lora_")[0])
            if part is None:
                tensors[name] = tensor
            elif name.endswith(".lora_A.weight"):
                tensors[name] = torch.cat([tensor, part.a.to(tensor)], dim=0)
            else:
                tensors[name] = torch.cat([tensor, -part.b.to(tensor)], dim=1)
        return SavedAdapter(_of_twice_the_rank(model.peft_config["default"]), tensors)


def _of_twice_the_rank(config: LoraConfig) -> LoraConfig:
    """Return the configuration with all ranks doubled, and alphas with them: equal scalings."""
    twice = copy.copy(config)
    twice.r, twice.lora_alpha = 2 * config.r, 2 * config.lora_alpha
    twice.rank_pattern = {name: 2 * rank for name, rank in config.rank_pattern.items()}
    twice.alpha_pattern = {name: 2 * alpha for name, alpha in config.alpha_pattern.items()}
    return twice
