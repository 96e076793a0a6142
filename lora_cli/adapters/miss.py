"""MiSS: matrix shard sharing. Kang and Yin 2024, arXiv 2409.15371."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import FieldProblem, Setting

if TYPE_CHECKING:
    from peft import MissConfig


class Miss(TargetedSpec):
    """W' = W + (D D … D): one matrix D (out, rank), repeated along the inputs.

    The update is that of a LoRA whose A only adds up every rank-th input; D starts at zero.
    """

    variant: Literal["miss"] = "miss"
    """The method: one trained block, shared by all shards of the weight."""
    rank: int = Field(default=64, ge=1)
    """Columns of the block: the rank of the update."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping a module's input while training."""

    capability: ClassVar[Capability] = Capability(
        conv1d="no code for weights held as (in, out): use lora or vera, or a quantized base",
        exports="rank",
    )
    learning_rate: ClassVar[float] = 2e-4

    def problems(self, setting: Setting) -> Iterator[FieldProblem]:
        """Yield that the rank is over a module's inputs."""
        narrowest = min(setting.modules, key=lambda each: each.in_features)
        if self.rank > narrowest.in_features:
            inputs = narrowest.in_features
            message = f"a rank of {self.rank} is over the {inputs} inputs of `{narrowest.name}`"
            yield FieldProblem("rank", message, f"use at most {inputs}")

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of rank·out: one block a module."""
        return sum(self.rank * each.out_features for each in setting.modules)

    def summary(self) -> str:
        """Return variant, rank and dropout."""
        return f"miss, rank {self.rank}, dropout {self.dropout:g}"

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> MissConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import MissConfig

        return MissConfig(
            task_type=task,
            target_modules=target_modules,
            r=self.rank,
            miss_dropout=self.dropout,
        )
