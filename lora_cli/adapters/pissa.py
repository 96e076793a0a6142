"""PiSSA: principal singular values and vectors. Meng et al. 2024, arXiv 2404.02948, section 3."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lora_cli.adapters.residual import ResidualSpec
from lora_cli.adapters.singular_values import decompose, decompose_roughly
from lora_cli.adapters.variant import Evidence, Start


class Pissa(ResidualSpec):
    """B·A starts as the best rank-r approximation of W, which the frozen base gives up.

    On a quantized base, the rest is what is quantized: its error is smaller than W's.
    """

    variant: Literal["pissa"] = "pissa"
    """The method: LoRA on the principal singular values and vectors."""
    svd: Literal["full", "fast"] = "full"
    """`fast`: a randomised SVD, for large models; its error is a little larger."""
    svd_iterations: int = Field(default=4, ge=1)
    """Power iterations of the fast SVD."""

    def start(self, evidence: Evidence) -> Start:
        """Return B = U·√(S/s), A = √(S/s)·Vᵀ of W's first singular values (equations 2 and 3)."""
        if self.svd == "full":
            found = decompose(evidence.weight)
        else:
            found = decompose_roughly(evidence.weight, evidence.rank, self.svd_iterations)
        part = found.part(slice(evidence.rank)).factors(evidence.scaling)
        return Start(part, taken=part)
