"""What is estimated: a recipe and what was probed for it, on any device, with any change of it.

Probing reads data and model once; a changed recipe is planned again from the same facts, through
the same rules, so that a change that no run could have is refused here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lora_cli.data.batches.units import Units
from lora_cli.data.chat.chat_template import TemplateReading
from lora_cli.errors import LoraCliError, PlanError
from lora_cli.events import Report, unheard
from lora_cli.facts.base_model import BaseModelFacts, probe_base_model
from lora_cli.facts.dataset import DatasetFacts, FileFacts, SourceFacts, TokenFacts
from lora_cli.facts.hub_data import hub_data
from lora_cli.facts.machine import MachineFacts, probe_machine
from lora_cli.facts.model_source import find_model
from lora_cli.memory.batch_shape import BatchShape, longest_batch
from lora_cli.plan.inputs import Facts, longest_row
from lora_cli.plan.make import probe_facts
from lora_cli.plan.resolve import resolve_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe, recipe_of_text
from lora_cli.recipe.options import at_options, by_override, placed
from lora_cli.targets.barred import barred
from lora_cli.targets.match import match_targets

COMMAND_LINE = Path("command line")
ROWS = 1024
"""How many rows are made up where there are none: enough for any batch."""


@dataclass(frozen=True)
class Subject:
    """A recipe, and the facts that its plan is made from."""

    loaded: LoadedRecipe
    facts: Facts
    full_length: bool
    """Whether rows are taken to be as long as `max_length` lets them, for want of any data."""
    left_out: tuple[str, ...] = ()
    """What is left out of the adapter though nobody asked for it, and why."""

    @cached_property
    def plan(self) -> RunPlan:
        """Return the plan.

        Raises:
            PlanError: with every rule that it breaks.
        """
        return resolve_plan(self.loaded, self.facts)

    def on(self, machine: MachineFacts) -> Subject:
        """Return it on another machine."""
        return replace(self, facts=replace(self.facts, machine=machine))

    def with_settings(self, settings: Sequence[str]) -> Subject:
        """Return it with `settings` (`key=value`) over those of the recipe.

        Raises:
            LoraCliError: no recipe has such values.
        """
        overrides = (*self.loaded.overrides, *settings)
        loaded = recipe_of_text(self.loaded.text, self.loaded.path, overrides)
        base = self.facts.base
        matched = match_targets(loaded.recipe.adapter, base, loaded.source)
        tokens = longest_row(loaded, base)
        rows = _made_up(loaded, tokens) if self.full_length else _cut(self.facts, tokens)
        facts = replace(self.facts, matched=matched, dataset=rows.dataset, units=rows.units)
        return replace(self, loaded=loaded, facts=facts)

    def with_full_rows(self) -> Subject:
        """Return it with rows that are all as long as `max_length` lets them."""
        return replace(self, full_length=True).with_settings(())

    @property
    def batch(self) -> BatchShape:
        """Return the largest micro batch that the rows can come to."""
        schedule = self.plan.schedule
        if schedule.batching != "packed":
            return longest_batch(self.plan)
        fullest = np.sort(self.facts.units.tokens)[-schedule.batch_size :]
        return BatchShape(rows=1, tokens=int(fullest.sum()))


def subject_of_recipe(loaded: LoadedRecipe, report: Report = unheard) -> Subject:
    """Return a recipe with the facts of its model, its data where that is here, and this machine.

    Raises:
        PlanError: with every problem that could be found.
    """
    if _is_remote(loaded):
        return _without_rows(loaded)
    return Subject(loaded, probe_facts(loaded, report), full_length=False)


def subject_of_settings(settings: Sequence[str], options: Mapping[str, str]) -> Subject:
    """Return a recipe of `settings` alone, whose rows are all of the full length.

    What peft would not adapt is left out where nobody says what to take. `options` says of those
    settings that were typed as options how they were.

    Raises:
        LoraCliError: with every problem found, each at its option.
    """
    by_setting = by_override(options)
    try:
        loaded = recipe_of_text("dataset: rows.jsonl\n", COMMAND_LINE, settings)
        found = _without_rows(placed(loaded, by_setting), any_weights=True)
        return _without_barred(found, by_setting)
    except LoraCliError as error:
        raise type(error).from_problems(at_options(error.problems, by_setting)) from error


def _without_barred(subject: Subject, options: Mapping[str, str]) -> Subject:
    """Return it without what peft would not adapt, where nobody has said what to take."""
    loaded, facts = subject.loaded, subject.facts
    asked = {("adapter", "target_modules"), ("adapter", "exclude_modules")}
    if any(path[:2] in asked for path in loaded.source.values):
        return subject
    modules = [each.name for each in facts.matched.modules]
    found = tuple(barred(loaded.recipe.adapter, modules, facts.base))
    if not found:
        return subject
    names = ", ".join(name for each in found for name in each.names)
    setting = f"adapter.exclude_modules=[{names}]"
    whys = tuple(f"taken with `--set {setting}`: {each.why}" for each in found)
    without = subject.with_settings([setting])
    return replace(without, loaded=placed(without.loaded, options), left_out=whys)


def _is_remote(loaded: LoadedRecipe) -> bool:
    """Return whether any training rows would have to be fetched first."""
    here = loaded.path.parent
    names = [name for section in loaded.recipe.dataset for name in section.path]
    return any(
        "://" in name or (hub_data(name) is not None and not (here / name).parent.is_dir())
        for name in names
    )


def _without_rows(loaded: LoadedRecipe, *, any_weights: bool = False) -> Subject:
    """Return a recipe whose rows are not read; `any_weights`: nor asked for its weights."""
    if loaded.recipe.task.needs_labels:
        message = "labels are found in the rows, and these are not on this machine"
        raise PlanError(message, loaded.source.of_key(("task",)), "name them in `task.labels`")
    base = _base(loaded)
    if any_weights and base.source.weights == "none":
        base = replace(base, source=replace(base.source, weights="safetensors"))
    rows = _made_up(loaded, longest_row(loaded, base))
    facts = Facts(
        machine=probe_machine(),
        task=loaded.recipe.task,
        base=base,
        matched=match_targets(loaded.recipe.adapter, base, loaded.source),
        token_ids=(),
        tokenizer_sha256="",
        chat_template_sha256=None,
        chat_template=None,
        template=TemplateReading(),
        stop_tokens={},
        padding_token=base.padding_token or 0,
        run_dir=Path("runs"),
        dataset=rows.dataset,
        units=rows.units,
    )
    return Subject(loaded, facts, full_length=True)


def _base(loaded: LoadedRecipe) -> BaseModelFacts:
    model = loaded.recipe.model
    try:
        source = find_model(model.name, revision=model.revision, base_dir=loaded.path.parent)
        return probe_base_model(
            source, loaded.recipe.task, trust_remote_code=model.trust_remote_code
        )
    except PlanError as error:
        where = loaded.source.of_value(("model", "name"))
        there = (replace(p, where=where) if not p.where.file else p for p in error.problems)
        raise PlanError.from_problems(there) from error


@dataclass(frozen=True)
class _RowFacts:
    dataset: DatasetFacts
    units: Units


def _made_up(loaded: LoadedRecipe, tokens: int) -> _RowFacts:
    """Return the facts of rows that are all of so many tokens, and learnt in full."""
    rows = max(ROWS, loaded.recipe.training.batch_size)
    train = TokenFacts(
        rows=rows,
        total=rows * tokens,
        supervised=rows * tokens,
        truncated_rows=0,
        cut_tokens=0,
        median=tokens,
        percentile_95=tokens,
        longest=tokens,
        rows_with_end=rows,
    )
    source = SourceFacts((FileFacts("rows.jsonl", ""),), "messages", "", rows, rows)
    dataset = DatasetFacts(
        sources=(source,) * len(loaded.recipe.dataset),
        evaluation_source=None,
        train=train,
        evaluation=train if loaded.recipe.evaluation else None,
        highest_token_id=0,
    )
    packs = tuple((row,) for row in range(rows))
    packed = packs if loaded.recipe.training.batching == "packed" else None
    return _RowFacts(dataset, Units(np.full(rows, tokens, dtype=np.int64), packed))


def _cut(facts: Facts, tokens: int) -> _RowFacts:
    """Return what is known of the rows, none of them longer than `tokens`."""
    dataset, units = facts.dataset, facts.units
    evaluation = _cut_tokens(dataset.evaluation, tokens) if dataset.evaluation else None
    train = _cut_tokens(dataset.train, tokens)
    return _RowFacts(
        replace(dataset, train=train, evaluation=evaluation),
        replace(units, tokens=np.minimum(units.tokens, tokens)),
    )


def _cut_tokens(facts: TokenFacts, tokens: int) -> TokenFacts:
    lengths = ("median", "percentile_95", "longest")
    return facts.model_copy(update={name: min(getattr(facts, name), tokens) for name in lengths})
