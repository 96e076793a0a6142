"""What every low-rank variant has in common: rank, alpha, dropout and the modules it adapts.

W' = W + s·B·A with A: (rank, in), B: (out, rank); the variant decides the scaling s.
This module does not know which modules a name matches (`targets`) or what peft builds from it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from lora_cli.section import Section

if TYPE_CHECKING:
    from peft import LoraConfig

TargetPreset = Literal["all-linear", "attention", "mlp"]


class TargetRegex(Section):
    """Modules whose full name matches a regular expression."""

    regex: str = Field(min_length=1)
    """Matched against the whole module name, e.g. `.*layers\\.[0-9]+\\.self_attn\\..*`."""


def _target_form(value: Any) -> str:
    if isinstance(value, dict | TargetRegex):
        return "regex"
    return "names" if isinstance(value, list | tuple) else "preset"


ModuleNames = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]
TargetModules = Annotated[
    Annotated[TargetPreset, Tag("preset")]
    | Annotated[ModuleNames, Field(min_length=1), Tag("names")]
    | Annotated[TargetRegex, Tag("regex")],
    Discriminator(_target_form),
]


class LowRankSpec(Section):
    """Fields shared by the low-rank variants."""

    main_field = "variant"

    rank: int = Field(default=16, ge=1)
    """Rank of the update: the inner dimension of A and B."""
    alpha: float | None = Field(default=None, gt=0)
    """Numerator of the scaling. Left out, the variant's own default is taken."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an input of A while training. 0.05 is worth trying on few rows; it
    costs a good part of a step on a CPU."""
    target_modules: TargetModules = "all-linear"
    """Modules to adapt: `all-linear`, `attention`, `mlp`, a list of names, or `{regex: …}`."""

    rank_stabilised: ClassVar[bool] = False

    @property
    def resolved_alpha(self) -> float:
        """Return alpha as given, or the variant's default."""
        raise AssertionError("every variant says its default alpha")

    @property
    def scaling(self) -> float:
        """Return s: alpha / rank, or alpha / √rank where the variant stabilises the rank."""
        divisor = math.sqrt(self.rank) if self.rank_stabilised else self.rank
        return self.resolved_alpha / divisor

    def trainable_parameters(self, in_features: int, out_features: int) -> int:
        """Return rank·(in + out): A is (rank, in), B is (out, rank)."""
        return self.rank * (in_features + out_features)

    def peft_config(self, target_modules: list[str]) -> LoraConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import LoraConfig, TaskType

        return LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=self.rank,
            # peft annotates lora_alpha as int but only ever divides it
            lora_alpha=self.resolved_alpha,
            lora_dropout=self.dropout,
            use_rslora=self.rank_stabilised,
            target_modules=target_modules,
            bias="none",
        )
