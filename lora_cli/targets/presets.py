"""The usual choices of modules, each with its cost for the variant that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.errors import LoraCliError
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.quantization import QuantizationSpec
from lora_cli.recipe.source import Source
from lora_cli.targets.cost import choose
from lora_cli.targets.support import refusals

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "attention": {"target_modules": "attention"},
    "mlp": {"target_modules": "mlp"},
    "all-linear": {"target_modules": "all-linear"},
    "attention + experts": {"target_modules": "attention", "target_parameters": "experts"},
    "all-linear + experts": {"target_modules": "all-linear", "target_parameters": "experts"},
    "all-linear + embeddings": {"target_modules": "all-linear", "modules_to_save": ("embedding",)},
}
"""What a recipe's `adapter` says for each; `embedding` stands for the base's embedding and head."""
_PLAIN: Mapping[str, Any] = {"exclude_modules": (), "layers": (), "modules_to_save": ()}


@dataclass(frozen=True, slots=True)
class PresetCost:
    """A preset, and what it takes of a base; `why_not` where variant or base refuse it."""

    name: str
    modules: int = 0
    parameters: int = 0
    """Tensors adapted by themselves."""
    trainable: int = 0
    share: float = 0.0
    """Of all numbers, the adapter's included."""
    why_not: str = ""


def preset_costs(
    spec: AdapterSpec, base: BaseModelFacts, quantization: QuantizationSpec
) -> tuple[PresetCost, ...]:
    """Return what each preset costs with `spec`; none for a variant that adapts no modules."""
    if not isinstance(spec, TargetedSpec):
        return ()
    fitting = {
        name: fields
        for name, fields in PRESETS.items()
        if base.fused_experts or "target_parameters" not in fields
    }
    return tuple(_cost(name, fields, spec, base, quantization) for name, fields in fitting.items())


def share_of(trainable: int, beside: int, base: BaseModelFacts) -> float:
    """Return the trained share of all numbers; those `beside` the adapter are the base's own."""
    return trainable / (base.parameters + trainable - beside)


def _cost(  # noqa: PLR0917  # what is counted, and on what
    name: str,
    fields: Mapping[str, Any],
    spec: TargetedSpec,
    base: BaseModelFacts,
    quantization: QuantizationSpec,
) -> PresetCost:
    ends = (base.embedding, *((base.output_head,) if base.output_head else ()))
    values = {**_PLAIN, **fields}
    if values["modules_to_save"]:
        values["modules_to_save"] = tuple(each.name for each in ends if each.name in base.sizes)
    if "target_parameters" in fields and spec.capability.experts:
        return PresetCost(name, why_not=spec.capability.experts)
    if isinstance(spec, LowRankSpec):
        values.setdefault("target_parameters", ())
        values["trainable_tokens"] = ()
    try:
        adapter: Any = spec.model_copy(update=values)
        choice = choose(adapter, base, Source(""))
    except LoraCliError as error:
        return PresetCost(name, why_not=error.problems[0].message)
    return PresetCost(
        name,
        len(choice.matched.modules),
        len(choice.matched.parameters),
        choice.trainable,
        share_of(choice.trainable, choice.beside, base),
        next(refusals(choice, base, quantization), ""),
    )
