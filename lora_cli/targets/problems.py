"""What is wrong with the modules and parameters that a recipe names: every name at its place.

Nothing is passed over in silence: a name that means nothing, leaves nothing out or adapts nothing
is a problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.targeted import TargetedSpec, TargetPreset, TargetRegex
from lora_cli.errors import Problem
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.recipe.source import Source
from lora_cli.targets import select
from lora_cli.targets.names import did_you_mean, is_meant, last_names, listing
from lora_cli.targets.roles import layer_of

ADAPTER = "adapter"
_LEFT_OUT = "`exclude_modules`, `layers` or `modules_to_save` leaves out all that it means"


def find_problems(spec: TargetedSpec, base: BaseModelFacts, source: Source) -> list[Problem]:
    """Return every problem with the names in `spec`; `source` knows where they stand."""
    if missing := list(_missing_layers(spec, base, source)):
        # what such layers leave out follows from them
        spec = spec.model_copy(update={"layers": ()})
    unmatched = list(_unmatched(spec, base, source))
    return [
        *(unmatched or _left_out(spec, base, source)),
        *_useless_exclusions(spec, base, source),
        *missing,
        *_unknown_saved(spec, base, source),
        *_nested_saved(spec, base, source),
        *_unknown_parameters(spec, base, source),
    ]


def _unmatched(spec: TargetedSpec, base: BaseModelFacts, source: Source) -> Iterator[Problem]:
    """Find what means no module that can be adapted."""
    key, wanted = (ADAPTER, "target_modules"), spec.target_modules
    layers = listing(each.name for each in base.linears)
    if not isinstance(wanted, str | TargetRegex):
        for index, name in _strangers(wanted, [each.name for each in select.targets(spec, base)]):
            yield _stranger(name, base, source, (*key, index))
    elif select.targets(spec, base):
        return
    elif isinstance(wanted, str):
        message = f"`{wanted}` matches no linear layer of {base.architecture}"
        yield Problem(source.of_value(key), message, f"its layers: {layers}")
    else:
        example = base.linears[0].name if base.linears else ""
        message = f"the expression matches no linear layer of {base.architecture}"
        hint = f"it must match a whole name, such as `{example}`"
        yield Problem(source.of_value((*key, "regex")), message, hint)


def _strangers(names: Sequence[str], modules: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the names that mean none of the modules, and their numbers in the list."""
    for index, name in enumerate(names):
        if not any(is_meant(module, (name,)) for module in modules):
            yield index, name


def _stranger(
    name: str, base: BaseModelFacts, source: Source, path: tuple[str | int, ...]
) -> Problem:
    where, layers = source.of_value(path), [each.name for each in base.linears]
    if name in get_args(TargetPreset):
        hint = f"write `target_modules: {name}`, without brackets"
        return Problem(where, f"`{name}` is no module, but means several", hint)
    if "," in name:
        names = ", ".join(part.strip() for part in name.split(","))
        return Problem(where, f"`{name}` is one name with a comma in it", f"write [{names}]")
    router = next(
        (p.name for p in base.bare_parameters if is_meant(p.name, (f"{name}.weight",))), ""
    )
    if router:
        message = f"`{name}` is no linear layer, but holds a matrix"
        return Problem(where, message, f"write `target_parameters: [{name}.weight]`")
    if any(is_meant(each.name, (name,)) for each in base.uncalled):
        message = f"`{name}` is never called: the model reads its weight, past any adapter"
        return Problem(where, message, f"layers that can be adapted: {listing(layers)}")
    if any(is_meant(module, (name,)) for module in base.other_modules):
        message = f"`{name}` is not a linear layer inside the model"
        inner = [layer for layer in layers if name in layer.split(".")]
        hint = f"name the layers in it: {listing(inner)}" if inner else ""
        return Problem(where, message, hint or f"layers that can be adapted: {listing(layers)}")
    message = f"`{name}` matches no module of {base.architecture}"
    return Problem(where, message, f"{did_you_mean(name, layers)}its layers: {listing(layers)}")


def _left_out(spec: TargetedSpec, base: BaseModelFacts, source: Source) -> Iterator[Problem]:
    """Find targets of which exclusions, layers and modules trained as a whole leave nothing."""
    key, wanted = (ADAPTER, "target_modules"), spec.target_modules
    names = [each.name for each in select.kept(select.targets(spec, base), spec, base)]
    if not names:
        hint = _LEFT_OUT
        if isinstance(spec, LowRankSpec) and spec.target_parameters:
            hint = "peft needs a layer beside the experts: keep one, such as `q_proj` of one layer"
        yield Problem(source.of_value(key), "no module is left to adapt", hint)
    elif not isinstance(wanted, str | TargetRegex):
        for index, name in _strangers(wanted, names):
            yield Problem(source.of_value((*key, index)), f"`{name}` adapts nothing", _LEFT_OUT)


def _useless_exclusions(
    spec: TargetedSpec, base: BaseModelFacts, source: Source
) -> Iterator[Problem]:
    key = (ADAPTER, "exclude_modules")
    meant = [each.name for each in select.targets(spec, base)]
    meant += [each.name for each in select.parameters(spec, base)]
    hint = f"what is adapted without it: {listing(meant)}"
    if not isinstance(spec.exclude_modules, TargetRegex):
        for index, name in _strangers(spec.exclude_modules, meant):
            guess = did_you_mean(name, meant)
            yield Problem(
                source.of_value((*key, index)), f"`{name}` excludes nothing", guess + hint
            )
    elif not any(is_meant(name, spec.exclude_modules) for name in meant):
        message = "the expression excludes nothing: it must match a whole name"
        yield Problem(source.of_value((*key, "regex")), message, hint)


def _missing_layers(spec: TargetedSpec, base: BaseModelFacts, source: Source) -> Iterator[Problem]:
    names = [*(each.name for each in base.linears), *base.other_modules]
    there = {number for name in names if (number := layer_of(name)) is not None}
    highest = max(there, default=-1)
    for index, layer in enumerate(spec.layers):
        where = source.of_value((ADAPTER, "layers", index))
        last = select.ends(layer)[1]
        if last > highest:
            message = f"layer {last} is not there: {base.architecture} has {highest + 1}"
            yield Problem(where, message, f"layers count from 0: the last is {highest}")


def _unknown_saved(spec: TargetedSpec, base: BaseModelFacts, source: Source) -> Iterator[Problem]:
    every = [*(each.name for each in base.linears), *base.other_modules]
    for index, name in _strangers(spec.modules_to_save, list(base.sizes)):
        where = source.of_value((ADAPTER, "modules_to_save", index))
        if any(is_meant(module, (name,)) for module in every):
            message = f"`{name}` cannot be trained as a whole: it has no weights, or is a mere list"
            yield Problem(where, message, "name a module with weights, such as `lm_head`")
        else:
            message = f"`{name}` matches no module of {base.architecture}"
            others = ", ".join(last_names(name for name in base.sizes if layer_of(name) is None))
            hint = f"{did_you_mean(name, base.sizes)}outside its layers it has {others}"
            yield Problem(where, message, hint)


def _nested_saved(spec: TargetedSpec, base: BaseModelFacts, source: Source) -> Iterator[Problem]:
    saved = select.saved_modules(spec, base)
    for inner in saved:
        outer = next(
            (each for each in saved if each != inner and select.is_inside(inner, (each,))), ""
        )
        if outer:
            where = source.of_value((ADAPTER, "modules_to_save"))
            message = f"`{inner}` lies in `{outer}`, which is trained as a whole anyway"
            yield Problem(where, message, "name one of the two")
            return


def _unknown_parameters(
    spec: TargetedSpec, base: BaseModelFacts, source: Source
) -> Iterator[Problem]:
    wanted = spec.target_parameters if isinstance(spec, LowRankSpec) else ()
    key, every = (ADAPTER, "target_parameters"), [each.name for each in base.bare_parameters]
    found = select.parameters(spec, base)
    kept = [each.name for each in select.kept_parameters(found, spec, base)]
    if isinstance(wanted, str):
        if not found:
            hint = "experts that are linear layers are named in `target_modules`"
            message = f"{base.architecture} has no fused experts"
            yield Problem(source.of_value(key), message, hint)
        elif not kept:
            yield Problem(source.of_value(key), "no experts are left to adapt", _LEFT_OUT)
        return
    for index, name in _strangers(wanted, kept):
        where = source.of_value((*key, index))
        if any(is_meant(each.name, (name,)) for each in found):
            yield Problem(where, f"`{name}` adapts nothing", _LEFT_OUT)
        else:
            message = f"`{name}` is no matrix of {base.architecture} outside its linear layers"
            short = dict.fromkeys(".".join(each.split(".")[-2:]) for each in every)
            hint = f"{did_you_mean(name, every)}those are: {', '.join(short) or 'none'}"
            yield Problem(where, message, hint)
