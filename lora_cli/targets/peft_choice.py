"""What peft itself would take of a model where it is given `all-linear`, or nothing at all.

Told by peft's own functions, in the order in which it calls them; no adapter is put on the model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_cli.adapters.lora import Lora
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.linear_layers import LinearFacts
from lora_cli.facts.peft_names import why_refused
from lora_cli.recipe.source import Source
from lora_cli.targets.cost import choose
from lora_cli.targets.groups import ORDER, Group
from lora_cli.targets.match import Matched, adapter_setting
from lora_cli.words import reason_of

ALL_LINEAR, NONE = "all-linear", "None"
_WHY_MORE = {
    "router": "a router decides which expert reads a token: it is adapted where it is named",
    "head": "a head is trained as a whole (`modules_to_save`), or adapted where it is named",
    "experts": "experts cost the most: they are adapted where `target_parameters: experts` says so",
}
_RENAMED = "peft takes the name for a part of the fused experts, and passes the layers by"
_UNCALLED = "the model reads its weight and never calls it: it would never be trained"


@dataclass(frozen=True, slots=True)
class Difference:
    """Modules or tensors that one of the two takes and the other does not."""

    pattern: str
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class PeftChoice:
    """What peft takes for a value of `target_modules`; `why_not` where it refuses."""

    target_modules: str
    modules: int = 0
    parameters: int = 0
    trainable: int = 0
    """With plain LoRA at the rank that is asked for."""
    only_peft: tuple[Difference, ...] = ()
    """What it takes and our `all-linear` does not."""
    only_ours: tuple[Difference, ...] = ()
    why_not: str = ""


@dataclass(frozen=True)
class _Compared:
    """What peft's choices are held against."""

    model: Any
    base: BaseModelFacts
    groups: Sequence[Group]
    task: str
    rank: int


def peft_choices(
    model: Any, base: BaseModelFacts, groups: Sequence[Group], *, task: str, rank: int
) -> tuple[PeftChoice, ...]:
    """Return what peft takes for `all-linear` and for None; `task` is peft's name for the task."""
    compared = _Compared(model, base, groups, task, rank)
    return (_choice(ALL_LINEAR, compared), _choice(None, compared))


def _choice(wanted: str | None, compared: _Compared) -> PeftChoice:
    base, rank, name = compared.base, compared.rank, wanted or NONE
    try:
        taken, patterns = _taken(compared.model, wanted, compared.task)
    except ValueError as error:
        return PeftChoice(name, why_not=reason_of(error))
    head = (base.output_head,) if base.output_head else ()
    every = {each.name: each for each in (base.embedding, *base.linears, *head)}
    every |= {each.name: each for each in base.uncalled}
    for each in base.heads:
        every.setdefault(each, LinearFacts(each, 0, 0))
    matched = Matched(
        tuple(each for each in every.values() if each.name in taken),
        (),
        tuple(each for each in base.bare_parameters if each.name in taken),
    )
    found = matched.names
    ours = choose(Lora(rank=rank), base, Source("")).taken if base.linears else frozenset()
    spec = Lora(rank=rank, rank_pattern={key: rank * times for key, times in patterns.items()})
    renamed = _RENAMED if name == ALL_LINEAR else ""
    return PeftChoice(
        name,
        len(matched.modules),
        len(matched.parameters),
        spec.trainable_parameters(adapter_setting(matched, base, 1)),
        _only_peft(found - ours, compared),
        _differences(ours - found, compared.groups, dict.fromkeys(ORDER, renamed)),
    )


def _only_peft(names: frozenset[str], compared: _Compared) -> tuple[Difference, ...]:
    """Return what peft takes and our `all-linear` does not."""
    uncalled = names.intersection(each.name for each in compared.base.uncalled)
    return (
        *_differences(names - uncalled, compared.groups, _WHY_MORE),
        *_differences(uncalled, compared.groups, dict.fromkeys(ORDER, _UNCALLED)),
    )


def _differences(
    names: frozenset[str], groups: Sequence[Group], whys: Mapping[str, str]
) -> tuple[Difference, ...]:
    counts = [(group, len(names.intersection(group.names))) for group in groups]
    return tuple(
        Difference(group.pattern, count, whys.get(group.role, ""))
        for group, count in counts
        if count
    )


def _taken(model: Any, wanted: str | None, task: str) -> tuple[frozenset[str], dict[str, int]]:
    """Return the modules and tensors that peft adapts, and how many times its rank some get.

    Raises:
        ValueError: peft refuses.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import (
        _maybe_include_all_linear_layers,
        check_target_module_exists,
    )
    from peft.utils.transformers_weight_conversion import (
        convert_peft_config_for_transformers,
        get_model_conversion_mapping,
    )

    config = LoraConfig(r=1, target_modules=wanted, task_type=task)
    # as `BaseTuner.inject_adapter` does: experts first, whose names have changed
    convert_peft_config_for_transformers(config, model, get_model_conversion_mapping(model))
    if config.target_modules is None:
        config.target_modules = _default(model.config.model_type)
    config = _maybe_include_all_linear_layers(config, model)
    modules = [name for name, _ in model.named_modules() if name]
    if isinstance(config.target_modules, str):
        found = [name for name in modules if check_target_module_exists(config, name)]
    else:
        found = _ending_in(config.target_modules, modules)
    for leaf in dict.fromkeys(name.rpartition(".")[2] for name in found):
        if why := why_refused(model, leaf):
            raise ValueError(why)
    tensors = [name for name, _ in model.named_parameters()]
    found += _ending_in(config.target_parameters or (), tensors)
    if not found:
        raise ValueError("peft finds nothing to adapt, and asks for `target_modules`")
    return frozenset(found), dict(config.rank_pattern or {})


def _default(kind: str) -> list[str] | str:
    """Return what peft's table has for a model type.

    Raises:
        ValueError: it has nothing.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TABLE

    if kind not in TABLE:
        message = f"peft has no default for the model type `{kind}` and asks for `target_modules`"
        raise ValueError(message)
    found: list[str] | str = TABLE[kind]
    return found


def _ending_in(ends: Collection[str], names: Sequence[str]) -> list[str]:
    """Return the names that are one of `ends`, or end in one from a dot on."""
    whole, suffixes = frozenset(ends), tuple(f".{end}" for end in ends)
    return [name for name in names if name in whole or name.endswith(suffixes)]
