"""AdamW: Adam with decoupled weight decay.

Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lora_cli.section import Section

if TYPE_CHECKING:
    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Section):
    """AdamW over the adapter's parameters, state in the parameters' own dtype."""

    main_field = "name"

    name: Literal["adamw"] = "adamw"
    """The optimizer."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay; 0 for adapters, whose size the rank already bounds."""
    beta1: Beta = 0.9
    """Decay of the mean of gradients."""
    beta2: Beta = 0.999
    """Decay of the mean of squared gradients."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the denominator."""

    def build(
        self, parameters: Iterable[torch.nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """Return the optimizer over `parameters`."""
        import torch

        return torch.optim.AdamW(
            parameters,
            lr=learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.epsilon,
            weight_decay=self.weight_decay,
        )
