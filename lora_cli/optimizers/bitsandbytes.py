"""AdamW of bitsandbytes: its state in 8 bits, in pages, or both.

8 bits: Dettmers et al. 2022, arXiv 2110.02861: a dynamic code with a scale per block of 256; here
tensors of fewer than 4096 numbers keep 32 bits, as they do there. Pages: Dettmers et al. 2023,
arXiv 2305.14314, section 3: what does not fit on the GPU waits in the CPU's memory. On a CPU there
is nothing to page to, and the state is plain memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from lora_cli.optimizers.settings import LoraPlusSettings

if TYPE_CHECKING:
    import torch


class BitsAndBytesAdamW(LoraPlusSettings):
    """AdamW whose state takes less of a GPU's memory.

    On a CPU, the paged ones keep their state in plain memory.
    """

    name: Literal["adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
    """`adamw_8bit`, `paged_adamw` (32 bits) or `paged_adamw_8bit`. Tensors of fewer than 4096
    numbers always have 32 bits."""

    package: ClassVar[str] = "bitsandbytes"

    @property
    def paged(self) -> bool:
        """Return whether the state moves to the CPU's memory where the GPU's is short."""
        return self.name.startswith("paged")

    def build(
        self, parameters: Mapping[str, torch.nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """Return the optimizer over those of a model's `parameters` that require a gradient."""
        from bitsandbytes import optim

        groups = self.groups(parameters, learning_rate)
        on_gpu = any(each.is_cuda for each in parameters.values())
        optimizer: torch.optim.Optimizer = optim.AdamW(
            groups,
            optim_bits=8 if self.name.endswith("8bit") else 32,
            is_paged=self.paged and on_gpu,  # else it warns that it cannot
            **self.arguments(),
        )
        return optimizer
