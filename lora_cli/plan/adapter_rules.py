"""What makes an adapter impossible on this base: checks of its fields, one small function each.

Names that match nothing are problems before there is a plan (`targets.problems`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lora_cli.adapters.low_rank import LowRankSpec, is_patterned
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.errors import Problem
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.run_plan import RunPlan
from lora_cli.targets.barred import advice, barred
from lora_cli.targets.select import is_inside

_WHOLE = "to train it, name it in `modules_to_save`, or single tokens in `trainable_tokens`"


def pattern_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse patterns that mean nothing, and two that mean one module and disagree."""
    spec = plan.adapter.spec
    if not isinstance(spec, LowRankSpec):
        return
    names = (*plan.adapter.modules, *spec.target_parameters)
    fields: dict[str, Mapping[str, float]] = {
        "rank_pattern": spec.rank_pattern,
        "alpha_pattern": spec.alpha_pattern,
    }
    for field, patterns in fields.items():
        if patterns and spec.capability.patterns:
            where = inputs.source.of_value(("adapter", field))
            yield Problem(where, f"`{field}` with {spec.variant}: {spec.capability.patterns}")
            continue
        for pattern, message, hint in _pattern_faults(patterns, names):
            yield Problem(inputs.source.of_key(("adapter", field, pattern)), message, hint)


def _pattern_faults(
    patterns: Mapping[str, float], names: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield (pattern, message, hint) of each that matches nothing, or what another one matches."""
    first: dict[str, str] = {}
    for pattern, number in patterns.items():
        meant = [name for name in names if is_patterned(name, pattern)]
        if not meant:
            hint = f"it must match the end of a name, such as `{names[0]}`, from a dot on"
            yield pattern, f"`{pattern}` matches no module that is adapted", hint
        twice = [name for name in meant if patterns[first.setdefault(name, pattern)] != number]
        if twice:
            # peft takes the first pattern, but its configuration file keeps no order
            message = f"`{first[twice[0]]}` and `{pattern}` both match `{twice[0]}`"
            yield pattern, message, "let each module match one pattern only"


def dtype_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse pairs in bfloat16 where the method needs more, or the base would gain nothing."""
    spec = plan.adapter.spec
    if not isinstance(spec, LowRankSpec) or spec.dtype == "float32":
        return
    where = inputs.source.of_value(("adapter", "dtype"))
    if spec.capability.bfloat16:
        message = f"{spec.variant} in {spec.dtype}: {spec.capability.bfloat16}"
        yield Problem(where, message, "remove the line, or use lora")
    elif plan.model.dtype != spec.dtype:
        message = (
            f"an adapter in {spec.dtype} on a base in {plan.model.dtype}: each layer's inputs "
            "would be rounded for it"
        )
        yield Problem(where, message, f"remove the line, or set `model.dtype: {spec.dtype}`")


def expert_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse tensors that are adapted by themselves where peft has no method for them."""
    spec = plan.adapter.spec
    if not isinstance(spec, LowRankSpec) or not spec.target_parameters:
        return
    key = ("adapter", "target_parameters")
    if spec.capability.experts:
        message = f"{spec.variant} on fused experts: {spec.capability.experts}"
        yield Problem(inputs.source.of_value(key), message)
    elif spec.dropout:
        where = inputs.source.of_value(("adapter", "dropout"))
        message = "what `target_parameters` names is adapted without dropout"
        yield Problem(
            where, message, "set `dropout: 0`: it drops inputs, and there is no layer here"
        )
    elif plan.optimizer.freezes_a:
        where = inputs.source.of_value(("training", "optimizer", "name"))
        message = f"{plan.optimizer.name} has no correction for several experts in one tensor"
        yield Problem(where, message, "use adamw")


def barred_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse layers that peft would not adapt on this base."""
    asked, where = inputs.recipe.adapter, inputs.source.of_value(("adapter", "target_modules"))
    for each in barred(asked, plan.adapter.modules, inputs.facts.base):
        message = f"on {plan.model.architecture} {each.why}"
        yield Problem(where, message, advice(asked, each))


def embedding_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse adapters on embedding or head where they would be wrong, or there are none."""
    base, spec = inputs.facts.base, plan.adapter.spec
    ends = [base.embedding.name, *([base.output_head.name] if base.output_head else [])]
    where = inputs.source.of_value(("adapter", "target_modules"))
    for name in (each for each in ends if each in plan.adapter.modules):
        if base.tied_embeddings:
            message = f"`{name}` is embedding and output head in one: merged, both would change"
            yield Problem(where, message, _WHOLE)
        elif spec.capability.embeddings:
            yield Problem(
                where, f"{spec.variant} on `{name}`: {spec.capability.embeddings}", _WHOLE
            )
        elif plan.optimizer.freezes_a and name == base.embedding.name:
            message = f"{plan.optimizer.name} has no correction for `{name}`"
            at_optimizer = inputs.source.of_value(("training", "optimizer", "name"))
            yield Problem(at_optimizer, message, "use adamw")


def saved_module_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse to train as a whole what is quantized, or tied where the copies would part."""
    spec, base = plan.adapter.spec, inputs.facts.base
    if not isinstance(spec, TargetedSpec):
        return
    saved, where = spec.modules_to_save, inputs.source.of_value(("adapter", "modules_to_save"))
    held = [
        linear.name
        for linear in base.linears
        if is_inside(linear.name, saved) and not plan.quantization.keeps(linear.name)
    ]
    if held:
        message = f"`{held[0]}` is held in {plan.quantization.method} and cannot be trained"
        hint = "name it in `quantization.full_precision_modules` too"
        yield Problem(where, message, hint)
    if base.tied_embeddings and base.embedding.name in saved and not spec.ties_modules_to_save:
        message = f"with {spec.variant}, `{base.embedding.name}` and the output head, which are one"
        hint = "use lora, or train other modules as a whole"
        yield Problem(where, f"{message} weight, would be two copies that part in training", hint)


def token_problems(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    """Refuse to train single tokens of an embedding that is adapted or trained already."""
    spec, name = plan.adapter.spec, inputs.facts.base.embedding.name
    if not isinstance(spec, LowRankSpec) or not spec.trainable_tokens:
        return
    twice = {
        "modules_to_save": name in spec.modules_to_save,
        "target_modules": name in plan.adapter.modules,
    }
    for field in (field for field, named in twice.items() if named):
        where = inputs.source.of_value(("adapter", "trainable_tokens"))
        message = f"`{field}` names `{name}` already, with all its tokens"
        yield Problem(where, message, "keep one of the two")


ADAPTER_RULES = (
    pattern_problems,
    dtype_problems,
    expert_problems,
    barred_problems,
    embedding_problems,
    saved_module_problems,
    token_problems,
)
