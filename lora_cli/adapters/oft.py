"""OFT: orthogonal fine-tuning. Qiu et al. 2023, arXiv 2306.07280, section 3.

The Cayley–Neumann series: OFTv2, Qiu et al. 2025, arXiv 2506.19847.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.blocks import nearest_block
from lora_cli.adapters.capability import Capability
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import FieldProblem, Setting

if TYPE_CHECKING:
    from peft import OFTConfig


class Oft(TargetedSpec):
    """W' = W·R: R turns the inputs in blocks, and keeps the angles between W's rows.

    Each block of R is orthogonal, made from a skew-symmetric matrix that is trained and starts at
    zero: R starts as the identity.
    """

    variant: Literal["oft"] = "oft"
    """The method: a rotation of each block of a module's inputs."""
    block_size: int = Field(default=32, ge=2)
    """Inputs that are turned together; it must divide every module's inputs. A larger one trains
    more."""
    share_blocks: bool = False
    """Turn all blocks of a module alike."""
    cayley: Literal["neumann", "exact"] = "neumann"
    """How a rotation is made: `neumann`, five terms of a series, fast; `exact`, a system solved."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the blocks that are left unturned in a forward pass of training."""

    capability: ClassVar[Capability] = Capability(
        conv1d="no code for weights held as (in, out): use lora or vera, or a quantized base",
        exports="approximation",
    )
    learning_rate: ClassVar[float] = 5e-4

    def problems(self, setting: Setting) -> Iterator[FieldProblem]:
        """Yield that the blocks do not cut a module's inputs: peft would take other ones."""
        odd = [each for each in setting.modules if each.in_features % self.block_size]
        if odd:
            inputs = f"the {odd[0].in_features} inputs of `{odd[0].name}`"
            near = nearest_block(self.block_size, [each.in_features for each in setting.modules])
            hint = f"use {near}" if near else "adapt modules whose inputs have a divisor in common"
            message = f"blocks of {self.block_size} do not divide {inputs}"
            yield FieldProblem("block_size", message, hint)

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of what the blocks hold: block·(block − 1) / 2 numbers each."""
        block = self.block_size * (self.block_size - 1) // 2
        if self.share_blocks:
            return block * len(setting.modules)
        return block * sum(each.in_features // self.block_size for each in setting.modules)

    def summary(self) -> str:
        """Return variant, block size and dropout."""
        shared = ", shared" if self.share_blocks else ""
        return f"oft, blocks of {self.block_size}{shared}, dropout {self.dropout:g}"

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> OFTConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import OFTConfig

        return OFTConfig(
            task_type=task,
            target_modules=target_modules,
            oft_block_size=self.block_size,
            block_share=self.share_blocks,
            use_cayley_neumann=self.cayley == "neumann",
            module_dropout=self.dropout,
        )
