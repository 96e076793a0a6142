"""Target modules of a recipe → the exact module names, and the short names peft needs for them.

This module does not know adapters: any variant takes what is matched here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lora_cli.adapters.low_rank import TargetModules, TargetRegex
from lora_cli.errors import PlanError, Problem, Where
from lora_cli.facts.base_model import BaseModelFacts, LinearFacts
from lora_cli.targets.roles import role_of


@dataclass(frozen=True, slots=True)
class Matched:
    """The modules a recipe adapts, in the model's order."""

    modules: tuple[LinearFacts, ...]
    peft_names: tuple[str, ...]
    """The shortest list of names by which peft matches exactly `modules`."""


def match_targets(target: TargetModules, base: BaseModelFacts, where: Where) -> Matched:
    """Return what `target` matches in `base`; `where` is its place in the recipe.

    Raises:
        PlanError: a name, a preset or the expression matches nothing.
    """
    if isinstance(target, TargetRegex):
        modules = _by_regex(target.regex, base, where)
    elif isinstance(target, str):
        modules = _by_preset(target, base, where)
    else:
        modules = _by_names(target, base, where)
    return Matched(modules, _peft_names(modules, base.linears))


def _by_preset(
    preset: str, base: BaseModelFacts, where: Where
) -> tuple[LinearFacts, ...]:
    roles = {"attention": {"attention"}, "mlp": {"mlp"}}.get(preset, {"attention", "mlp", "other"})
    modules = tuple(linear for linear in base.linears if role_of(linear.name) in roles)
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
    names: Sequence[str], base: BaseModelFacts, where: Where
) -> tuple[LinearFacts, ...]:
    problems = [problem for name in names if (problem := _unmatched(name, base, where))]
    if problems:
        raise PlanError.from_problems(problems)
    return tuple(l for l in base.linears if any(_is_named(l.name, name) for name in names))


def _is_named(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")


def _unmatched(name: str, base: BaseModelFacts, where: Where) -> Problem | None:
    if any(_is_named(linear.name, name) for linear in base.linears):
        return None
    if any(_is_named(module, name) for module in base.other_modules):
        message = f"`{name}` is not a linear layer inside the model"
        return Problem(where, message, f"layers that can be adapted: {_listing(base)}")
    leaves = _leaves(base)
    near = difflib.get_close_matches(name, leaves, n=1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    message = f"`{name}` matches no module of {base.architecture}"
    return Problem(where, message, f"{hint}its layers: {_listing(base)}")


def _leaves(base: BaseModelFacts) -> list[str]:
    return list(dict.fromkeys(linear.name.rpartition(".")[2] for linear in base.linears))


def _listing(base: BaseModelFacts) -> str:
    return ", ".join(_leaves(base)) or "none"


def _peft_names(modules: Sequence[LinearFacts], linears: Sequence[LinearFacts]) -> tuple[str, ...]:
    """Return last names if they single out `modules`, else the full names."""
    wanted = {module.name for module in modules}
    leaves = tuple(dict.fromkeys(module.name.rpartition(".")[2] for module in modules))
    matched = {linear.name for linear in linears if any(_is_named(linear.name, l) for l in leaves)}
    return leaves if matched == wanted else tuple(sorted(wanted))
