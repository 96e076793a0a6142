"""AdamW: Adam with decoupled weight decay.

Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from lora_cli.optimizers.settings import LoraPlusSettings

if TYPE_CHECKING:
    import torch


class AdamW(LoraPlusSettings):
    """AdamW over the adapter's parameters, state in the parameters' own dtype."""

    is_default: ClassVar[bool] = True

    name: Literal["adamw"] = "adamw"
    """The optimizer."""

    def build(
        self, parameters: Mapping[str, torch.nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """Return the optimizer over those of a model's `parameters` that require a gradient."""
        import torch

        return torch.optim.AdamW(self.groups(parameters, learning_rate), **self.arguments())
