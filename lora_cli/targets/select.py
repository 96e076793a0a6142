"""Which modules and parameters a recipe means; names that mean nothing are passed over.

This module does not say what is wrong with a recipe (`problems`).
"""

from __future__ import annotations

from collections.abc import Iterable

from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.targeted import Layer, TargetedSpec
from lora_cli.facts.bare_parameters import ParameterFacts
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.linear_layers import LinearFacts
from lora_cli.targets.names import is_meant
from lora_cli.targets.roles import Role, layer_of, role_of

ROLES: dict[str, frozenset[Role]] = {
    "all-linear": frozenset({"attention", "mlp", "other"}),
    "attention": frozenset({"attention"}),
    "mlp": frozenset({"mlp"}),
}
"""What each preset takes: routers are never adapted unless they are named."""


def targets(spec: TargetedSpec, base: BaseModelFacts) -> tuple[LinearFacts, ...]:
    """Return what `target_modules` means, before anything is left out.

    A preset takes layers inside the model; embedding and output head have to be named.
    """
    wanted = spec.target_modules
    if isinstance(wanted, str):
        return tuple(each for each in base.linears if role_of(each.name) in ROLES[wanted])
    head = (base.output_head,) if base.output_head else ()
    every = (base.embedding, *base.linears, *head)
    return tuple(each for each in every if is_meant(each.name, wanted))


def kept(
    found: Iterable[LinearFacts], spec: TargetedSpec, base: BaseModelFacts
) -> tuple[LinearFacts, ...]:
    """Return those of `found` that nothing else in the recipe leaves out."""
    saved = saved_modules(spec, base)
    return tuple(
        each
        for each in found
        if not is_left_out(each.name, spec) and not is_inside(each.name, saved)
    )


def is_left_out(name: str, spec: TargetedSpec) -> bool:
    """Return whether `exclude_modules` or `layers` leaves a module or parameter out."""
    if is_meant(name, spec.exclude_modules):
        return True
    return bool(spec.layers) and not any(_lies_in(layer_of(name), each) for each in spec.layers)


def _lies_in(number: int | None, layer: Layer) -> bool:
    first, last = ends(layer)
    return number is not None and first <= number <= last


def ends(layer: Layer) -> tuple[int, int]:
    """Return the first and the last layer of a range; for a number, itself twice."""
    first, _, last = str(layer).partition("-")
    return int(first), int(last or first)


def saved_modules(spec: TargetedSpec, base: BaseModelFacts) -> tuple[str, ...]:
    """Return the modules that are trained as a whole: those named and those that the task puts on.

    Of tied embeddings both ends are, or neither.
    """
    named = tuple(name for name in base.sizes if is_meant(name, spec.modules_to_save))
    tied = tied_pair(base)
    both = tied if set(named) & set(tied) else ()
    return tuple(dict.fromkeys((*named, *both, *base.new_heads)))


def tied_pair(base: BaseModelFacts) -> tuple[str, ...]:
    """Return embedding and output head if they are one weight."""
    if not base.tied_embeddings or base.output_head is None:
        return ()
    return base.embedding.name, base.output_head.name


def is_inside(name: str, modules: Iterable[str]) -> bool:
    """Return whether a module is one of `modules`, or lies in one of them."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def parameters(spec: TargetedSpec, base: BaseModelFacts) -> tuple[ParameterFacts, ...]:
    """Return the tensors that `target_parameters` means, before anything is left out."""
    if not isinstance(spec, LowRankSpec):
        return ()
    wanted = spec.target_parameters
    return tuple(
        each
        for each in base.bare_parameters
        if (each.experts if isinstance(wanted, str) else is_meant(each.name, wanted))
    )


def kept_parameters(
    found: Iterable[ParameterFacts], spec: TargetedSpec, base: BaseModelFacts
) -> tuple[ParameterFacts, ...]:
    """Return those of `found` that nothing else in the recipe leaves out."""
    saved = saved_modules(spec, base)
    return tuple(
        each
        for each in found
        if not is_left_out(each.name, spec) and not is_inside(each.name, saved)
    )
