"""LoRA-FA: LoRA with frozen A. Zhang et al. 2023, arXiv 2308.03303v2.

With A frozen, a layer's input need not be kept for the backward pass. Of all steps of B, the one
whose change of the weight is nearest to a step along the weight's own gradient G is taken: the g
that minimises ‖s·g·A − G‖ is ∂L/∂B·(A·Aᵀ)⁻¹/s², as ∂L/∂B = s·G·Aᵀ. The factor 1/s² is left out: the
steps of Adam do not depend on a gradient's scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lora_cli.optimizers.settings import SIDE_A, SIDE_B, AdamWSettings

if TYPE_CHECKING:
    import torch


class LoraFa(AdamWSettings):
    """AdamW over B alone, its gradient corrected for A, which stays as it starts."""

    name: Literal["lora_fa"]
    """AdamW over B alone: half the parameters, and no inputs kept for the gradients of A."""

    freezes_a: ClassVar[bool] = True

    def build(
        self, parameters: Mapping[str, torch.nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """Freeze every A; return the optimizer over those that still require a gradient."""
        import torch

        corrections = {}
        for name, b in parameters.items():
            if SIDE_B in name:
                a = parameters[name.replace(SIDE_B, SIDE_A)].requires_grad_(False)
                corrections[b] = _inverse_gram(a)

        def correct(*_step: Any) -> None:
            for b, correction in corrections.items():
                if b.grad is not None:
                    b.grad = (b.grad.to(correction.dtype) @ correction).to(b.dtype)

        trained = [each for each in parameters.values() if each.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=learning_rate, **self.arguments())
        optimizer.register_step_pre_hook(correct)
        return optimizer


def _inverse_gram(a: torch.Tensor) -> torch.Tensor:
    """Return (A·Aᵀ)⁻¹ of A (rank, in): (rank, rank), a pseudo-inverse where A's rank is less.

    It is in float32, whatever A is in: its own rounding would turn every step.
    """
    import torch

    wide = a.detach().double()
    inverse: torch.Tensor = torch.linalg.pinv(wide @ wide.T, hermitian=True)
    return inverse.float()
