"""What the low-rank variants have in common: W' = W + s·B·A, A (rank, in), B (out, rank).

The variant decides the scaling s, and how A and B start.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag

from lora_cli.adapters.targeted import ModuleNames, TargetedSpec
from lora_cli.adapters.variant import FieldProblem, Module, Setting

if TYPE_CHECKING:
    from peft import LoraConfig

Rank = Annotated[int, Field(ge=1)]
Alpha = Annotated[float, Field(gt=0)]
Token = Annotated[
    Annotated[int, Field(ge=0), Tag("id")] | Annotated[str, Field(min_length=1), Tag("text")],
    Discriminator(lambda value: "id" if type(value) is int else "text"),
]
TargetParameters = Annotated[
    Annotated[Literal["experts"], Tag("preset")] | Annotated[ModuleNames, Tag("names")],
    Discriminator(lambda value: "names" if isinstance(value, list | tuple) else "preset"),
]


def is_patterned(module: str, pattern: str) -> bool:
    """Return whether a pattern means a module: it matches the end of its name, from a dot on."""
    return re.match(rf"(.*\.)?({pattern})$", module) is not None


class LowRankSpec(TargetedSpec):
    """Fields shared by the low-rank variants."""

    rank: int = Field(default=16, ge=1)
    """Rank of the update: the inner dimension of A and B."""
    alpha: float | None = Field(default=None, gt=0)
    """Numerator of the scaling. Left out, the variant's own default is taken."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an input of A while training. 0.05 is worth trying on few rows; it
    costs a good part of a step on a CPU."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the pairs are held, trained and saved in. `bfloat16` needs a base in bfloat16 and spares
    each adapted layer's float32 copy of its inputs, a third of the activations where all layers are
    adapted. It costs coarser steps: a change of less than 0.4 % of a number can be rounded away."""
    rank_pattern: dict[str, Rank] = Field(default_factory=dict)
    """Other ranks for some modules: `{q_proj: 8}`; a regular expression for the end of a name."""
    alpha_pattern: dict[str, Alpha] = Field(default_factory=dict)
    """Other alphas for some modules, in the same way."""
    target_parameters: TargetParameters = ()
    """Tensors to adapt that are no layers: `experts` (those of fused experts) or a list of names,
    such as a router's. lora and rslora only, without dropout."""
    trainable_tokens: Annotated[tuple[Token, ...], Field(strict=False)] = ()
    """Tokens whose embeddings are trained, in full: texts such as `<tool>`, or token ids."""

    ties_modules_to_save: ClassVar[bool] = True
    rank_stabilised: ClassVar[bool] = False
    scaling_formula: ClassVar[str] = "alpha / rank"

    @property
    def resolved_alpha(self) -> float:
        """Return alpha, by default 2·rank: the scaling is then 2 at any rank."""
        return self.alpha if self.alpha is not None else 2.0 * self.rank

    @property
    def scaling(self) -> float:
        """Return s: alpha / rank, or alpha / √rank where the variant stabilises the rank."""
        return self._scaling(self.resolved_alpha, self.rank)

    def _scaling(self, alpha: float, rank: int) -> float:
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)

    def rank_of(self, module: str) -> int:
        """Return the rank of one module's pair."""
        rank: int = _patterned(self.rank_pattern, module, self.rank)
        return rank

    def scaling_of(self, module: str) -> float:
        """Return the scaling of one module's pair."""
        alpha = _patterned(self.alpha_pattern, module, self.resolved_alpha)
        return self._scaling(alpha, self.rank_of(module))

    def highest_rank(self, _module: Module) -> int | None:
        """Return the highest rank that the method can start one module with; None for any."""
        return None

    def settled(self, _setting: Setting) -> Self:
        """Return it with alpha filled in."""
        return self.model_copy(update={"alpha": self.resolved_alpha})

    def problems(self, setting: Setting) -> Iterator[FieldProblem]:
        """Yield that the rank is too high for the start, if it is for any module."""
        limits = [(self.highest_rank(module), module) for module in setting.modules]
        over = [
            (limit, module)
            for limit, module in limits
            if limit is not None and limit < self.rank_of(module.name)
        ]
        if over:
            limit, module = min(over, key=lambda each: each[0])
            shape = f"{module.out_features} × {module.in_features}"
            message = f"{self.variant} starts `{module.name}` ({shape}) with rank {limit} at most"
            hint = f"at most {limit}, or leave such modules out of `adapter.target_modules`"
            yield FieldProblem("rank", message, hint)

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of rank·(in + out): A is (rank, in), B is (out, rank)."""
        modules = (
            self.rank_of(each.name) * (each.in_features + each.out_features)
            for each in setting.modules
        )
        parameters = (
            self.rank_of(each.name) * each.matrices * (each.rows + each.columns)
            for each in setting.parameters
        )
        return sum(modules) + sum(parameters)

    @property
    def and_dtype(self) -> str:
        """Return the end of a summary: what the pairs are held in, if that is not float32."""
        return "" if self.dtype == "float32" else f", in {self.dtype}"

    def summary(self) -> str:
        """Return variant, rank, alpha, scaling and dropout; patterns change rank and scaling."""
        other = " and others by pattern" if self.rank_pattern or self.alpha_pattern else ""
        return (
            f"{self.variant}, rank {self.rank}, alpha {self.resolved_alpha:g}, "
            f"scaling {self.scaling:.4g}{other}, dropout {self.dropout:g}{self.and_dtype}"
        )

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> LoraConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import LoraConfig

        return LoraConfig(
            task_type=task,
            r=self.rank,
            # peft annotates lora_alpha as int but only ever divides it
            lora_alpha=self.resolved_alpha,
            lora_dropout=self.dropout,
            use_rslora=self.rank_stabilised,
            rank_pattern=dict(self.rank_pattern),
            alpha_pattern=dict(self.alpha_pattern),
            target_modules=target_modules,
            target_parameters=list(self.target_parameters) or None,
            bias="none",
        )


def _patterned(patterns: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    """Return the number of the pattern that means the module, if there is one."""
    return next(
        (number for pattern, number in patterns.items() if is_patterned(module, pattern)),
        otherwise,
    )


class DataStartSpec(LowRankSpec):
    """Fields shared by the low-rank variants whose start is computed from the recipe's data."""

    calibration_rows: int = Field(default=64, ge=1)
    """Training rows that the start is computed from: the first ones in the order of training."""
