"""Which variants take a choice of modules, and why the others do not.

They are the checks of the plan that need no more than the base and the choice; what depends on
data, optimizer or machine is the plan's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.quantization import QuantizationSpec
from lora_cli.targets.barred import advice, barred
from lora_cli.targets.cost import Choice, settle

VARIANTS: tuple[type[Any], ...] = get_args(get_args(AdapterSpec)[0])
_SHARED = (*TargetedSpec.model_fields, "rank", "target_parameters")
_NO_MODULES = "it trains vectors in front of the input, and takes no modules"


@dataclass(frozen=True, slots=True)
class VariantSupport:
    """Whether a variant takes the choice: what it then trains, or why not."""

    variant: str
    trainable: int = 0
    why_not: str = ""


def supported_by(
    choice: Choice, base: BaseModelFacts, quantization: QuantizationSpec
) -> tuple[VariantSupport, ...]:
    """Return for each variant whether it takes what `choice` takes, at the same rank.

    Nothing for a choice that takes no modules: there is nothing to be taken otherwise.
    """
    if not choice.taken:
        return ()
    return tuple(_support(variant, choice, base, quantization) for variant in VARIANTS)


def _support(
    variant: type[Any], choice: Choice, base: BaseModelFacts, quantization: QuantizationSpec
) -> VariantSupport:
    spec = as_variant(variant, choice.spec)
    if not isinstance(spec, TargetedSpec):
        return VariantSupport(spec.variant, why_not=_NO_MODULES)
    taken = choice if spec is choice.spec else settle(spec, choice.matched, base)
    why_not = next(refusals(taken, base, quantization), "")
    return VariantSupport(spec.variant, 0 if why_not else taken.trainable, why_not)


def as_variant(variant: type[Any], spec: AdapterSpec) -> AdapterSpec:
    """Return `spec` as another variant: with its modules and rank, else with defaults."""
    if type(spec) is variant:
        return spec
    shared = {
        name: getattr(spec, name)
        for name in _SHARED
        if name in variant.model_fields and name in spec.model_fields_set
    }
    found: AdapterSpec = variant.model_validate({**shared, "variant": variant.names()[0]})
    return found


def refusals(choice: Choice, base: BaseModelFacts, quantization: QuantizationSpec) -> Iterator[str]:
    """Yield why the plan would refuse the choice on this base; nothing if it would not."""
    spec, modules = choice.spec, choice.matched.modules
    if base.quantized_by and base.held is None:
        yield f"the model's files hold weights that {base.quantized_by} has quantized"
    if isinstance(spec, TargetedSpec) and not choice.taken:
        yield f"{base.architecture} has no linear layer to adapt"
        return  # nothing else can be asked of nothing
    conv1d = any(each.conv1d and quantization.keeps(each.name) for each in modules)
    yield from filter(None, [spec.capability.refusal(quantization.method, conv1d=conv1d)])
    ends = {base.embedding.name, base.output_head.name if base.output_head else ""}
    at_ends = [each.name for each in modules if each.name in ends]
    if at_ends and base.tied_embeddings:
        yield f"`{at_ends[0]}` is embedding and output head in one: merged, both would change"
    elif at_ends and spec.capability.embeddings:
        yield spec.capability.embeddings
    if choice.matched.parameters and spec.capability.experts:
        yield spec.capability.experts
    for each in barred(spec, (module.name for module in modules), base):
        yield f"{each.why}; {advice(spec, each)}"
    for problem in spec.problems(choice.setting):
        yield f"{problem.message}; {problem.hint}"
