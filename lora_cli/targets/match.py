"""Target modules of a recipe → the exact module names, and the short names peft needs for them.

This module does not know adapters: any variant takes what is matched here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lora_cli.adapters.low_rank import TargetModules, TargetRegex
from lora_cli.errors import PlanError, Problem, Where
from lora_cli.facts.base_model import BaseModelFacts, LinearFacts
from lora_cli.recipe.source import Source
from lora_cli.targets.roles import Role, role_of

KEY = ("adapter", "target_modules")
ROLES: dict[str, frozenset[Role]] = {
    "all-linear": frozenset({"attention", "mlp", "other"}),
    "attention": frozenset({"attention"}),
    "mlp": frozenset({"mlp"}),
}
"""What each preset takes: routers are never adapted unless they are named."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The modules a recipe adapts, in the model's order."""

    modules: tuple[LinearFacts, ...]
    peft_names: tuple[str, ...]
    """The shortest list of names by which peft matches exactly `modules`."""


def match_targets(target: TargetModules, base: BaseModelFacts, source: Source) -> Matched:
    """Return what `target` matches in `base`; `source` knows where the recipe says it.

    Raises:
        PlanError: a preset, the expression or a name matches nothing; all such names at once.
    """
    if isinstance(target, TargetRegex):
        modules = _by_regex(target.regex, base, source.of_value((*KEY, "regex")))
    elif isinstance(target, str):
        modules = _by_preset(target, base, source.of_value(KEY))
    else:
        modules = _by_names(target, base, source)
    return Matched(modules, _peft_names(modules, base))


def _by_preset(preset: str, base: BaseModelFacts, where: Where) -> tuple[LinearFacts, ...]:
    modules = tuple(linear for linear in base.linears if role_of(linear.name) in ROLES[preset])
    if not modules:
        message = f"`{preset}` matches no linear layer of {base.architecture}"
        raise PlanError(message, where, f"its layers: {_listing(base)}")
    return modules


def _by_regex(regex: str, base: BaseModelFacts, where: Where) -> tuple[LinearFacts, ...]:
    modules = tuple(linear for linear in base.linears if re.fullmatch(regex, linear.name))
    if not modules:
        example = base.linears[0].name if base.linears else ""
        message = f"the expression matches no linear layer of {base.architecture}"
        raise PlanError(message, where, f"it must match a whole name, such as `{example}`")
    return modules


def _by_names(
    names: Sequence[str], base: BaseModelFacts, source: Source
) -> tuple[LinearFacts, ...]:
    unmatched = [(i, name) for i, name in enumerate(names) if not _any_named(base.linears, name)]
    if unmatched:
        raise PlanError.from_problems(
            _unmatched(name, base, source.of_value((*KEY, index))) for index, name in unmatched
        )
    return tuple(
        linear for linear in base.linears if any(is_named(linear.name, name) for name in names)
    )


def is_named(module: str, name: str) -> bool:
    """Return whether peft, given `name` in a list, would match the module called `module`."""
    return module == name or module.endswith(f".{name}")


def _any_named(linears: Iterable[LinearFacts], name: str) -> bool:
    return any(is_named(linear.name, name) for linear in linears)


def _unmatched(name: str, base: BaseModelFacts, where: Where) -> Problem:
    if any(is_named(module, name) for module in base.other_modules):
        message = f"`{name}` is not a linear layer inside the model"
        return Problem(where, message, f"layers that can be adapted: {_listing(base)}")
    near = difflib.get_close_matches(name, _leaves(base.linears), n=1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    message = f"`{name}` matches no module of {base.architecture}"
    return Problem(where, message, f"{hint}its layers: {_listing(base)}")


def _leaves(linears: Iterable[LinearFacts]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(linear.name.rpartition(".")[2] for linear in linears))


def _listing(base: BaseModelFacts) -> str:
    return ", ".join(_leaves(base.linears)) or "none"


def _peft_names(modules: Sequence[LinearFacts], base: BaseModelFacts) -> tuple[str, ...]:
    """Return last names if they single out `modules` among all modules, else the full names."""
    wanted = {module.name for module in modules}
    every = [*(linear.name for linear in base.linears), *base.other_modules]
    leaves = _leaves(modules)
    matched = {name for name in every if any(is_named(name, leaf) for leaf in leaves)}
    return leaves if matched == wanted else tuple(module.name for module in modules)
