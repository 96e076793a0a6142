"""CorDA: context-oriented decomposition. Yang et al. 2024, arXiv 2406.05223, section 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import DataStartSpec
from lora_cli.adapters.residual import ResidualSpec
from lora_cli.adapters.singular_values import decompose
from lora_cli.adapters.variant import Evidence, Start, StartFrom

if TYPE_CHECKING:
    import torch

_QUANTIZED = (
    "it takes a part out of full-precision weights, chosen by their inputs; use eva, which starts "
    "from the inputs alone, or pissa, which takes a part out of the weights alone"
)
INVERSE_ERROR = 0.05
"""How far, in Frobenius norm, a matrix times its computed inverse may be from the identity."""


class Corda(ResidualSpec, DataStartSpec):
    """B·A starts as a part of W that is chosen by the module's inputs; the base gives it up.

    With C the mean of x·xᵀ and W·C = U·S·Vᵀ, W is U·S·(Vᵀ·C⁻¹): the first terms are those that act
    most on such inputs, the last those that act least.
    """

    variant: Literal["corda"] = "corda"
    """The method: LoRA on a part of the weight that the data chooses."""
    mode: Literal["instruction_previewed", "knowledge_preserved"] = "instruction_previewed"
    """`instruction_previewed` trains what acts most on the data, to learn its task best;
    `knowledge_preserved` what acts least on it, to keep what the base knows of such data."""

    capability: ClassVar[Capability] = Capability(
        four_bit=_QUANTIZED, eight_bit=_QUANTIZED, exports="twice the rank"
    )
    start_from: ClassVar[StartFrom] = "inputs"

    def start(self, evidence: Evidence) -> Start:
        """Return B = U·√(S/s), A = √(S/s)·Vᵀ·C⁻¹ of the first or last values."""
        assert evidence.inputs is not None, "it starts from inputs"
        covariance, inverse = _with_inverse(evidence.inputs)
        found = decompose(evidence.weight @ covariance)
        count, rank = len(found.values), evidence.rank
        first = self.mode == "instruction_previewed"
        chosen = found.part(slice(rank) if first else slice(count - rank, count))
        part = chosen._replace(right=chosen.right @ inverse).factors(evidence.scaling)
        return Start(part, taken=part)


def _with_inverse(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return C with as much added to its diagonal as its inverse needs, and that inverse.

    The scale of C falls out of the products that are made of it: its diagonal's mean becomes 1, so
    that A and B do not depend on the size of the inputs. What is added to it is 0.01, doubled until
    the inverse is one.
    """
    import torch

    mean = covariance.diagonal().mean()
    scaled = covariance / mean.clamp_min(torch.finfo(mean.dtype).tiny)
    identity = torch.eye(len(scaled), device=scaled.device)
    added = 0.01
    while True:
        damped = scaled + added * identity
        inverse = torch.linalg.inv(damped)
        if (damped @ inverse - identity).norm() < INVERSE_ERROR:
            return damped, inverse
        added *= 2
