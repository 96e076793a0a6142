"""LoKr: a Kronecker product with a low-rank factor.

KronA, Edalati et al. 2022, arXiv 2212.10650; LyCORIS, Yeh et al. 2023, arXiv 2309.14859, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lora_cli.adapters.blocks import nearest_block
from lora_cli.adapters.capability import Capability
from lora_cli.adapters.products import ProductSpec
from lora_cli.adapters.variant import FieldProblem, Module, Setting

if TYPE_CHECKING:
    from peft import LoKrConfig


class LoKr(ProductSpec):
    """W' = W + (alpha / rank)·C ⊗ (B·A): C small and whole, the other factor of low rank.

    C (u, v) and B·A (out / u, in / v) cut each side of the weight in two; where the rank is at
    least half the longer side of a factor, that factor is trained whole. C starts at zero.
    """

    variant: Literal["lokr"] = "lokr"
    """The method: a Kronecker product of a small matrix and a low-rank one."""
    factor: int | None = Field(default=None, ge=1)
    """Rows and columns of the first factor; left out, the largest divisor of each side up to its
    square root. A smaller one trains more."""
    decompose_both: bool = False
    """Make the first factor one of low rank as well, where it is large enough for that."""

    capability: ClassVar[Capability] = Capability(
        four_bit="no code for packed weights: use lora, vera or miss, or an int8 base",
        conv1d="no code for weights held as (in, out): use lora or vera, or an int8 base",
        exports="approximation",
    )

    def problems(self, setting: Setting) -> Iterator[FieldProblem]:
        """Yield that the factor does not divide a side: peft would silently take another one."""
        if self.factor is None:
            return
        sides = [side for each in setting.modules for side in (each.in_features, each.out_features)]
        for each in setting.modules:
            if each.in_features % self.factor or each.out_features % self.factor:
                shape = f"{each.out_features} × {each.in_features}"
                message = f"a factor of {self.factor} does not divide `{each.name}`, {shape}"
                near = nearest_block(self.factor, sides)
                hint = f"use {near}, or leave it out" if near else "leave it out"
                yield FieldProblem("factor", message, hint)
                return

    def highest_rank(self, modules: Sequence[Module]) -> int:
        """Return the rank from which on every second factor is whole, and a rank does no more."""
        sides = [side for each in modules for side in (each.in_features, each.out_features)]
        return (max((self._cut(side)[1] for side in sides), default=0) + 1) // 2

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum over modules of what their two factors hold, whole or of low rank."""
        return sum(self._of_module(each) for each in setting.modules)

    def _of_module(self, module: Module) -> int:
        (u, rows), (v, columns) = map(self._cut, (module.out_features, module.in_features))
        first = self._of_factor(u, v) if self.decompose_both else u * v
        return first + self._of_factor(rows, columns)

    def _of_factor(self, rows: int, columns: int) -> int:
        whole = self.rank >= max(rows, columns) / 2
        return rows * columns if whole else self.rank * (rows + columns)

    def _cut(self, side: int) -> tuple[int, int]:
        """Return (part of the first factor, part of the second), whose product is the side."""
        first = self.factor or next(n for n in range(int(side**0.5), 0, -1) if side % n == 0)
        return first, side // first

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> LoKrConfig:
        """Return peft's configuration for exactly these modules."""
        from peft import LoKrConfig

        return LoKrConfig(
            task_type=task,
            target_modules=target_modules,
            r=self.rank,
            # peft annotates it as int but only ever divides it
            alpha=self.alpha,
            decompose_factor=self.factor or -1,
            decompose_both=self.decompose_both,
        )
