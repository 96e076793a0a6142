"""LoftQ: LoRA-fine-tuning-aware quantization. Li et al. 2023, arXiv 2310.08659, algorithm 1."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.singular_values import decompose
from lora_cli.adapters.variant import Evidence, Factors, Module, Start, StartFrom


class LoftQ(LowRankSpec):
    """B·A starts as the best rank-r approximation of what the quantized base loses of W.

    After one iteration the base is the one that everybody gets by quantizing W. Each further one
    quantizes W − s·B·A anew and takes B·A from that: a smaller error, on a base of its own.
    """

    variant: Literal["loftq"] = "loftq"
    """The method: LoRA on the quantization error."""
    iterations: int = Field(default=1, ge=1)
    """Alternations of quantizing and decomposing. Over 1, the base is written with the adapter."""

    capability: ClassVar[Capability] = Capability(
        plain="it makes up for what quantizing loses, and nothing is quantized here; "
        "use pissa, or set `quantization: nf4`",
    )
    start_from: ClassVar[StartFrom] = "quantization error"

    @property
    def takes_from_base(self) -> bool:
        """Return whether another weight than W is quantized."""
        return self.iterations > 1

    def highest_rank(self, module: Module) -> int | None:
        """Return the rank of the error itself."""
        return min(module.in_features, module.out_features)

    def start(self, evidence: Evidence) -> Start:
        """Return the last pair, and the one before it, which the base was quantized without."""
        weight, scaling = evidence.weight, evidence.scaling
        pair: Factors | None = None
        for _ in range(self.iterations):
            taken = pair
            rest = weight if taken is None else weight - scaling * (taken.b @ taken.a)
            lost = decompose(weight - evidence.requantized(rest))
            pair = lost.part(slice(evidence.rank)).factors(scaling)
        assert pair is not None, "there is at least one iteration"
        return Start(pair, taken)
