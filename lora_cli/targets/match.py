"""The modules that a recipe names → their exact names, and the short names peft needs for them.

Any variant takes what is matched here: peft gets no exclusions and no layers, but what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.variant import Setting, VariantSpec
from lora_cli.errors import PlanError
from lora_cli.facts.bare_parameters import ParameterFacts
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.linear_layers import LinearFacts
from lora_cli.recipe.source import Source
from lora_cli.targets import select
from lora_cli.targets.names import is_meant, last_names
from lora_cli.targets.problems import find_problems
from lora_cli.targets.roles import role_of


@dataclass(frozen=True, slots=True)
class Matched:
    """The modules a recipe adapts, in the model's order, and those that it trains as a whole."""

    modules: tuple[LinearFacts, ...]
    peft_names: tuple[str, ...]
    """The shortest list of names by which peft matches exactly `modules`."""
    parameters: tuple[ParameterFacts, ...] = ()
    """Tensors that are adapted by themselves."""
    saved_modules: tuple[str, ...] = ()
    """Trained as a whole; both ends of tied embeddings, or neither."""

    @property
    def names(self) -> frozenset[str]:
        """Return the names of all modules and tensors that are adapted."""
        tensors = [each.name for each in self.parameters]
        return frozenset([*(each.name for each in self.modules), *tensors])

    @property
    def feed_forward_ends(self) -> tuple[str, ...]:
        """Return the names of those whose input is the inside of a feed-forward block."""
        return tuple(
            each.name
            for each in self.modules
            if role_of(each.name) == "mlp" and each.in_features > each.out_features
        )


def match_targets(spec: VariantSpec, base: BaseModelFacts, source: Source) -> Matched:
    """Return what `spec` names in `base`, nothing for a variant that adapts no modules.

    `source` knows where the recipe says it.

    Raises:
        PlanError: names that match nothing, leave nothing out or adapt nothing; all at once.
    """
    if not isinstance(spec, TargetedSpec):
        return Matched((), ())
    problems = find_problems(spec, base, source)
    if problems:
        raise PlanError.from_problems(problems)
    modules = select.kept(select.targets(spec, base), spec, base)
    return Matched(
        modules,
        _peft_names(modules, base),
        select.kept_parameters(select.parameters(spec, base), spec, base),
        select.saved_modules(spec, base),
    )


def adapter_setting(matched: Matched, base: BaseModelFacts, steps: int) -> Setting:
    """Return what an adapter of `matched` is settled for: a run of `steps` on this base."""
    return Setting(
        modules=matched.modules,
        feed_forward_ends=matched.feed_forward_ends,
        layers=base.layers,
        hidden_size=base.hidden_size,
        key_value_size=base.key_value_size,
        steps=steps,
        parameters=matched.parameters,
    )


def parameters_in(modules: Iterable[str], base: BaseModelFacts) -> int:
    """Return how many parameters modules hold that are trained as a whole; tied ones count once."""
    tied = select.tied_pair(base)[1:]
    return sum(base.sizes[name] for name in modules if name not in tied)


def _peft_names(modules: Sequence[LinearFacts], base: BaseModelFacts) -> tuple[str, ...]:
    """Return last names if they single out `modules` among all modules, else the full names."""
    wanted = {module.name for module in modules}
    every = [*(linear.name for linear in base.linears), *base.other_modules]
    leaves = last_names(module.name for module in modules)
    matched = {name for name in every if is_meant(name, leaves)}
    return leaves if matched == wanted else tuple(module.name for module in modules)
