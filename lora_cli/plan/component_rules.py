"""What makes a quantization or an optimizer impossible here: one small function each."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.errors import Problem
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.run_plan import RunPlan
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.bitsandbytes import Quantized, is_inside
from lora_cli.recipe.source import KeyPath

_IN_FULL = "name the model in full precision"


def missing_package(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse what needs bitsandbytes where it is not installed."""
    if importlib.util.find_spec("bitsandbytes") is not None:
        return
    needing: dict[KeyPath, str] = {}
    if plan.quantization.method != "none":
        needing["quantization", "method"] = plan.quantization.method
    if plan.optimizer.package == "bitsandbytes":
        needing["training", "optimizer", "name"] = plan.optimizer.name
    for key, value in needing.items():
        message = f"{value} needs the package bitsandbytes"
        yield Problem(inputs.source.of_value(key), message, "pip install bitsandbytes")


def full_precision_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse names of no layer, and names of all of them."""
    if not isinstance(plan.quantization, Quantized):
        return
    linears = [linear.name for linear in inputs.facts.base.linears]
    every = (*linears, *plan.model.heads)
    key = ("quantization", "full_precision_modules")
    for index, name in enumerate(plan.quantization.full_precision_modules):
        if not any(is_inside(module, name) for module in every):
            message = f"`{name}` matches no linear layer of {plan.model.architecture}"
            leaves = dict.fromkeys(module.rpartition(".")[2] for module in linears)
            where = inputs.source.of_value((*key, index))
            yield Problem(where, message, f"its layers: {', '.join(leaves)}")
    if all(map(plan.quantization.keeps, linears)):
        message = f"nothing is left to hold in {plan.quantization.method}"
        yield Problem(inputs.source.of_value(key), message, "write `quantization: none`")


def quantization_error_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse to start a module from the quantization error that it has not got."""
    spec = plan.adapter.spec
    kept = [module for module in plan.adapter.modules if plan.quantization.keeps(module)]
    if spec.start_from == "quantization error" and plan.quantization.method != "none" and kept:
        where = inputs.source.of_value(("quantization", "full_precision_modules"))
        message = f"{spec.variant} starts from what quantizing loses, and `{kept[0]}` loses nothing"
        yield Problem(where, message, "leave it out here, or out of `adapter.target_modules`")


def pair_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse optimizers that treat A and B differently where there is no such pair."""
    spec, optimizer = plan.adapter.spec, plan.optimizer
    no_pair = "" if isinstance(spec, LowRankSpec) else "it has no pair of A and B; use adamw"
    key = ("training", "optimizer")
    if optimizer.freezes_a and (refusal := no_pair or spec.capability.lora_fa):
        where = inputs.source.of_value((*key, "name"))
        yield Problem(where, f"{optimizer.name} with {spec.variant}: {refusal}")
    if getattr(optimizer, "lora_plus_ratio", None) is not None and no_pair:
        where = inputs.source.of_value((*key, "lora_plus_ratio"))
        message = f"LoRA+ with {spec.variant}: it has no pair of A and B"
        yield Problem(where, message, "remove the line")


def held_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse to hold otherwise what is quantized in the model's files, and to start from more."""
    base, asked, spec = inputs.facts.base, inputs.recipe.quantization, plan.adapter.spec
    if not base.quantized_by:
        return
    if base.held is None:
        where = inputs.source.of_value(("model", "name"))
        message = f"the model's files hold weights that {base.quantized_by} has quantized"
        yield Problem(where, message, _IN_FULL)
        return
    method = base.held.method
    if asked is not None and asked.model_dump() != _like(asked, base.held):
        where = inputs.source.of_value(("quantization", "method"))
        message = f"the model's files hold its weights in {method}, in a way of their own"
        yield Problem(where, message, f"leave `quantization` out, or {_IN_FULL}")
    if spec.start_from == "quantization error" or spec.takes_from_base:
        where = inputs.source.of_value(("adapter", "variant"))
        message = f"{spec.variant} starts from weights that the model's files no longer hold"
        yield Problem(where, message, f"{_IN_FULL}, with `quantization: {method}`")


def _like(asked: QuantizationSpec, held: QuantizationSpec) -> dict[str, Any]:
    """Return `held` as it would be written, with what the recipe leaves to the default."""
    written = held.model_dump()
    if asked.method == held.method:
        left_out = {name for name in written if name not in asked.model_fields_set}
        written |= {name: getattr(asked, name) for name in left_out}
    return written


COMPONENT_RULES = (
    held_problems,
    missing_package,
    full_precision_problems,
    quantization_error_problems,
    pair_problems,
)
