"""EVA: explained variance adaptation. Paischer et al. 2024, arXiv 2410.07170, section 3."""

from __future__ import annotations

from typing import ClassVar, Literal

from lora_cli.adapters.low_rank import DataStartSpec
from lora_cli.adapters.variant import Evidence, Factors, Module, Start, StartFrom


class Eva(DataStartSpec):
    """A starts as the directions in which the module's inputs have the most energy; B is zero.

    Every module gets the same rank (ρ = 1 in the paper): how many parameters are trained is known
    before the run, and does not depend on what the data's inputs turn out to be.
    """

    variant: Literal["eva"] = "eva"
    """The method: LoRA on the leading directions of the inputs."""

    start_from: ClassVar[StartFrom] = "inputs"

    def highest_rank(self, module: Module) -> int | None:
        """Return the number of directions that inputs can have."""
        return module.in_features

    def start(self, evidence: Evidence) -> Start:
        """Return A = the leading eigenvectors of the mean of x·xᵀ: X's right singular vectors."""
        import torch

        assert evidence.inputs is not None, "it starts from inputs"
        directions = torch.linalg.eigh(evidence.inputs).eigenvectors  # eigenvalues rise
        leading = directions[:, -evidence.rank :].flip(1).T
        b = torch.zeros(evidence.weight.shape[0], evidence.rank, device=leading.device)
        return Start(Factors(a=leading, b=b))
