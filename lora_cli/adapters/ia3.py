"""(IA)³: activations inhibited and amplified. Liu et al. 2022, arXiv 2205.05638, section 3.3."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.targeted import ModuleNames, TargetedSpec
from lora_cli.adapters.variant import FieldProblem, Setting

if TYPE_CHECKING:
    from peft import IA3Config


class Ia3(TargetedSpec):
    """y = l ⊙ (W·x), or W·(l ⊙ x) at the end of a feed-forward block; l starts at one."""

    variant: Literal["ia3"] = "ia3"
    """The method: one factor for each output of a module, or for each input."""
    feedforward_modules: ModuleNames | None = Field(default=None)
    """Those of the adapted modules whose inputs are scaled, by name; left out, the last layer of
    each feed-forward block, as in the paper."""

    capability: ClassVar[Capability] = Capability(exports="approximation")
    learning_rate: ClassVar[float] = 1e-2

    def settled(self, setting: Setting) -> Self:
        """Return it with the feed-forward modules filled in, by their shortest names."""
        if self.feedforward_modules is not None:
            return self
        modules = [each.name for each in setting.modules]
        return self.model_copy(
            update={"feedforward_modules": _short_names(setting.feed_forward_ends, modules)}
        )

    def problems(self, setting: Setting) -> Iterator[FieldProblem]:
        """Yield names of feed-forward modules that are not among the adapted ones."""
        modules = [each.name for each in setting.modules]
        for name in self.feedforward_modules or ():
            if not any(_is_named(module, [name]) for module in modules):
                hint = "name one of them, or leave the field out"
                message = f"`{name}` is none of the adapted modules"
                yield FieldProblem("feedforward_modules", message, hint)

    def trainable_parameters(self, setting: Setting) -> int:
        """Return the sum of the inputs of feed-forward modules and the outputs of the others."""
        scaled_inputs = self.feedforward_modules or ()
        return sum(
            each.in_features if _is_named(each.name, scaled_inputs) else each.out_features
            for each in setting.modules
        )

    def summary(self) -> str:
        """Return the variant, and whose inputs are scaled."""
        names = ", ".join(self.feedforward_modules or ())
        return f"ia3, on the outputs{f' (of {names}, on the inputs)' if names else ''}"

    def peft_config(self, target_modules: list[str], *, task: str = "CAUSAL_LM") -> IA3Config:
        """Return peft's configuration for exactly these modules."""
        from peft import IA3Config

        names = "|".join(map(re.escape, self.feedforward_modules or ()))
        return IA3Config(
            task_type=task,
            target_modules=target_modules,
            # an expression: in a list, peft takes any name that ends in the same letters
            feedforward_modules=rf"(.*\.)?({names})" if names else [],
        )


def _is_named(module: str, names: Sequence[str]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)


def _short_names(wanted: Sequence[str], modules: Sequence[str]) -> tuple[str, ...]:
    """Return names as short as they can be to single out `wanted` among `modules`."""
    found: list[str] = []
    for name in wanted:
        if not _is_named(name, found):
            found.append(_short_name(name, wanted, modules))
    return tuple(found)


def _short_name(name: str, wanted: Sequence[str], modules: Sequence[str]) -> str:
    parts = name.split(".")
    for start in range(len(parts) - 1, 0, -1):
        short = ".".join(parts[start:])
        if all(module in wanted for module in modules if _is_named(module, [short])):
            return short
    return name
