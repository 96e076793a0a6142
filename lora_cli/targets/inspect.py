"""inspect_targets: a recipe, or a model's name → everything that an adapter could take there.

From the config alone, on the meta device. Weights and rows are not read: of a task whose labels
are in its rows, the head is shown with two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from lora_cli.adapters.qlora import Qlora
from lora_cli.adapters.targeted import TargetedSpec, TargetRegex
from lora_cli.errors import InspectError, LoraCliError
from lora_cli.facts.base_model import BaseModelFacts, facts_of
from lora_cli.facts.inventory import WeightFacts, inventory
from lora_cli.facts.model_source import find_model
from lora_cli.facts.on_meta import any_model_on_meta, fitting_tasks, model_on_meta
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.bitsandbytes import FourBit
from lora_cli.quantization.none import Unquantized
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.targets.cost import Choice, choose, settle
from lora_cli.targets.explain import (
    PatternMatch,
    TowerTouched,
    Twice,
    explained,
    meant_twice,
    towers_touched,
    unmatched,
)
from lora_cli.targets.groups import Group, grouped
from lora_cli.targets.match import Matched
from lora_cli.targets.peft_choice import PeftChoice, peft_choices
from lora_cli.targets.presets import PresetCost, preset_costs, share_of
from lora_cli.targets.select import is_inside, targets
from lora_cli.targets.snippet import as_printed, snippet
from lora_cli.targets.support import VariantSupport, refusals, supported_by
from lora_cli.targets.tree import Branch, tree_of
from lora_cli.targets.written import Written
from lora_cli.tasks import TASKS, TaskSpec

DEFAULT_RANK = 16
"""That peft's choices are counted at, for a variant without a rank."""


@dataclass(frozen=True, slots=True)
class Row:
    """A group of weights, and what an adapter and a quantization make of it."""

    group: Group
    adapted: int
    """How many of the group are adapted."""
    whole: int
    """How many are trained as a whole."""
    trainable: int
    quantized: int
    """How many bitsandbytes takes: those asked for, or all it would take where none is."""
    why_not_quantized: str


@dataclass(frozen=True)
class Inspection:
    """What there is to adapt in a base, and what a choice of it comes to."""

    name: str
    tasks: tuple[str, ...]
    """What loracli can train the model for; none for a model of another kind."""
    base: BaseModelFacts
    quantization: QuantizationSpec
    rows: tuple[Row, ...]
    choice: Choice
    share: float
    """Of all numbers, the adapter's included."""
    refused: tuple[str, ...]
    """Why the plan would refuse the choice."""
    snippet_refused: tuple[str, ...]
    """Why it would refuse the snippet, which leaves out what peft would not adapt."""
    presets: tuple[PresetCost, ...]
    peft: tuple[PeftChoice, ...]
    patterns: tuple[PatternMatch, ...]
    twice: tuple[Twice, ...]
    towers: tuple[TowerTouched, ...]
    variants: tuple[VariantSupport, ...]
    snippet: str
    tree: Branch

    @property
    def left_out(self) -> int:
        """Return how many modules `target_modules` means that exclusions or layers leave out."""
        spec = self.choice.spec
        if not isinstance(spec, TargetedSpec):
            return 0
        return len(targets(spec, self.base)) - len(self.choice.matched.modules)


def inspect_targets(
    loaded: LoadedRecipe, written: Sequence[Written] = (), *, task_is_open: bool = False
) -> Inspection:
    """Return what there is to adapt in the base of `loaded`, and what its adapter takes.

    `written` are the patterns as they were typed, where they were. With `task_is_open` the recipe
    was made of a model's name alone: its task is the first that the model fits, and a model without
    a linear layer is shown all the same.

    Raises:
        PlanError: there is no such model, its config builds none, or names in the recipe mean
            nothing in it.
        InspectError: a typed pattern means nothing in it.
    """
    recipe, source = loaded.recipe, loaded.source
    model, base, tasks = _built(loaded, task_is_open=task_is_open)
    if problems := unmatched(written, base):
        raise InspectError.from_problems(problems)
    named = any(source.wrote(("adapter", key)) for key in ("target_modules", "target_parameters"))
    nothing_there = task_is_open and not written and not named and not base.linears
    choice = (
        settle(recipe.adapter, Matched((), ()), base)
        if nothing_there
        else choose(recipe.adapter, base, source)
    )
    written = written or _as_written(recipe.adapter)
    quantization = _quantization(loaded, base)
    weights = inventory(model)
    groups = grouped(weights, base)
    rank = getattr(recipe.adapter, "rank", DEFAULT_RANK)
    return Inspection(
        name=recipe.model.name,
        tasks=tasks,
        base=base,
        quantization=quantization,
        rows=_rows(groups, weights, choice, quantization),
        choice=choice,
        share=share_of(choice.trainable, choice.beside, base),
        refused=tuple(refusals(choice, base, quantization)),
        snippet_refused=tuple(refusals(as_printed(choice, base), base, quantization)),
        presets=preset_costs(recipe.adapter, base, quantization),
        peft=peft_choices(model, base, groups, task=_peft_task(tasks), rank=rank),
        patterns=explained(written, base),
        twice=meant_twice(written, base),
        towers=towers_touched(choice, base, written),
        variants=supported_by(choice, base, quantization),
        snippet=snippet(recipe, tasks, choice, base),
        tree=tree_of(model),
    )


def _built(
    loaded: LoadedRecipe, *, task_is_open: bool
) -> tuple[Any, BaseModelFacts, tuple[str, ...]]:
    """Return the model on the meta device, its facts, and the tasks that it can be trained for.

    It is built for the recipe's task; where that is left open, for the first that fits, and a model
    that none fits as its config says.
    """
    section, where = loaded.recipe.model, loaded.source.of_value(("model", "name"))
    code, task = section.trust_remote_code, loaded.recipe.task
    tasks: tuple[str, ...] = (task.name,)
    try:
        found = find_model(
            section.name, revision=section.revision, base_dir=loaded.path.parent, fingerprint=False
        )
        if task_is_open:
            tasks = fitting_tasks(found.folder, trust_remote_code=code)
            task = _task(tasks[0]) if tasks else task
        model = (
            model_on_meta(found.folder, task, trust_remote_code=code)
            if tasks
            else any_model_on_meta(found.folder, trust_remote_code=code)
        )
    except LoraCliError as error:
        problems = [p if p.where.file else replace(p, where=where) for p in error.problems]
        raise type(error).from_problems(problems) from error
    return model, facts_of(model, found, task), tasks


def _task(name: str) -> TaskSpec:
    task: Any = TASKS[name].model_validate({"name": name})
    return cast("TaskSpec", task)


def _peft_task(tasks: Sequence[str]) -> str:
    return TASKS[tasks[0]].peft_task if tasks else "FEATURE_EXTRACTION"


def _as_written(adapter: Any) -> tuple[Written, ...]:
    """Return what a recipe names, as `--targets` would have it."""
    if not isinstance(adapter, TargetedSpec):
        return ()
    wanted = adapter.target_modules
    if isinstance(wanted, str):
        return (Written(wanted, "preset"),)
    if isinstance(wanted, TargetRegex):
        return (Written(wanted.regex, "regex"),)
    return tuple(Written(name, "name") for name in wanted)


def _quantization(loaded: LoadedRecipe, base: BaseModelFacts) -> QuantizationSpec:
    """Return how the base will be held: as its files hold it, as asked, or as the variant needs."""
    asked = loaded.recipe.quantization
    if asked is None and isinstance(loaded.recipe.adapter, Qlora):
        asked = FourBit(method="nf4")
    return base.held or asked or Unquantized()


def _rows(
    groups: Sequence[Group],
    weights: Sequence[WeightFacts],
    choice: Choice,
    quantization: QuantizationSpec,
) -> tuple[Row, ...]:
    sizes = {each.name: each.parameters for each in weights}
    taken, saved = choice.taken, choice.matched.saved_modules

    def row(group: Group) -> Row:
        adapted = taken.intersection(group.names)
        whole = [name for name in group.names if is_inside(name, saved)]
        why_not = group.never_quantized or _HEAD * (group.role == "head")
        held = [] if why_not else [n for n in group.names if not _kept(n, quantization)]
        trained = choice.trainable_in(adapted) + sum(sizes[name] for name in whole)
        why_not = why_not or _NAMED * (len(held) < group.count)
        return Row(group, len(adapted), len(whole), trained, len(held), why_not)

    return tuple(map(row, groups))


_HEAD = "the output head never is"
_NAMED = "`full_precision_modules` names it"


def _kept(name: str, quantization: QuantizationSpec) -> bool:
    """Return whether the recipe keeps a layer as it is; without a quantization, none is asked."""
    return quantization.method != "none" and quantization.keeps(name)
