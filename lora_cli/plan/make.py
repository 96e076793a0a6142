"""A loaded recipe → its plan: probe the world, then resolve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lora_cli.data.bad_rows import row_problems
from lora_cli.data.chat.chat_template import (
    PLAIN_HEADINGS,
    find_chat_template,
    read_template,
    stop_tokens,
)
from lora_cli.data.encoding.encoder import Encoder
from lora_cli.data.encoding.encoders import encoder_for
from lora_cli.data.expected import expected_answer
from lora_cli.data.load import Dataset, load_dataset
from lora_cli.errors import LoraCliError, PlanError, Problem, Where
from lora_cli.events import Report, unheard
from lora_cli.facts.base_model import BaseModelFacts, probe_base_model
from lora_cli.facts.machine import probe_machine
from lora_cli.facts.model_source import find_model
from lora_cli.facts.tokenizer import (
    chat_template_sha256,
    load_tokenizer,
    padding_id,
    tokenizer_sha256,
)
from lora_cli.facts.weight_files import check_weight_files
from lora_cli.plan.batches import units_of_recipe
from lora_cli.plan.data_part import masking_of
from lora_cli.plan.inputs import Facts, longest_row
from lora_cli.plan.paths import RowSources, row_sources
from lora_cli.plan.resolve import resolve_plan
from lora_cli.plan.run_folder import run_folder
from lora_cli.plan.run_plan import RunPlan
from lora_cli.plan.task_part import settled_task
from lora_cli.plan.tokens import trained_tokens
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.targets.match import match_targets
from lora_cli.tasks import TaskSpec
from lora_cli.tasks.answers import expectation_problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


@dataclass
class _Probes:
    """Runs probes that do not need each other, and keeps the problems of all of them."""

    problems: list[Problem] = field(default_factory=list)

    def run(self, probe: Callable[[], T], where: Where | None = None) -> T | None:
        """Return what the probe finds; a problem without a file of its own stands at `where`."""
        try:
            return probe()
        except LoraCliError as error:
            self.problems += [_placed(problem, where) for problem in error.problems]
            return None


def make_plan(loaded: LoadedRecipe, report: Report = unheard) -> RunPlan:
    """Return the plan of a recipe on this machine. Reads data and tokenizer, loads no weights.

    Raises:
        PlanError: with every problem that could be found.
    """
    return resolve_plan(loaded, probe_facts(loaded, report))


def probe_facts(loaded: LoadedRecipe, report: Report = unheard) -> Facts:
    """Return all that a recipe's plan is made from, but the recipe.

    Raises:
        PlanError: with every problem that could be found.
    """
    probes, source = _Probes(), loaded.source
    at_model = source.of_value(("model", "name"))
    spec = loaded.recipe.adapter
    rows = probes.run(lambda: row_sources(loaded))
    task = probes.run(lambda: settled_task(loaded, rows)) if rows else None
    base = probes.run(lambda: _base(loaded, task or loaded.recipe.task), at_model)
    if base:
        probes.run(lambda: check_weight_files(base.source, base.shapes), at_model)
    matched = probes.run(lambda: match_targets(spec, base, source)) if base else None
    tokenizer = probes.run(lambda: _tokenizer(loaded, base), at_model) if base else None
    tokens = None
    if base and tokenizer:
        tokens = probes.run(lambda: trained_tokens(loaded, base, tokenizer))
    dataset = None
    if rows and task and base and tokenizer:
        at_split = source.of_value(("evaluation", "split"))
        encoder = probes.run(lambda: _encoder(loaded, task, base, tokenizer), at_model)
        if encoder:
            dataset = probes.run(lambda: _dataset(loaded, rows, encoder, report), at_split)
        if dataset:
            probes.run(lambda: _check_expected_answers(loaded, dataset, tokenizer), at_split)
    units = None
    if base and dataset:
        train, at_dataset = dataset.train, source.of_key(("dataset",))
        units = probes.run(lambda: units_of_recipe(loaded, base, train), at_dataset)
    machine = probes.run(probe_machine)
    folder = probes.run(lambda: run_folder(loaded), source.of_value(("output", "dir")))
    if probes.problems or not (
        task and base and matched and tokenizer and dataset and units and machine and folder
    ):
        raise PlanError.from_problems(_in_order(probes.problems, loaded.path))
    recipe_template = loaded.recipe.model.chat_template
    template = read_template(tokenizer, plain_headings=recipe_template in PLAIN_HEADINGS)
    return Facts(
        machine=machine,
        task=task,
        base=base,
        matched=matched,
        token_ids=tokens or (),
        dataset=dataset.facts,
        units=units,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        chat_template_sha256=chat_template_sha256(tokenizer),
        chat_template=str(tokenizer.chat_template) if recipe_template else None,
        template=template,
        stop_tokens=stop_tokens(tokenizer, template),
        padding_token=padding_id(tokenizer),
        run_dir=folder,
    )


def _in_order(problems: Sequence[Problem], recipe: Path) -> list[Problem]:
    """Return the recipe's own problems from top to bottom, then those of other files as found."""

    def place(problem: Problem) -> tuple[bool, int, int]:
        where, elsewhere = problem.where, problem.where.file != str(recipe)
        return elsewhere, *((0, 0) if elsewhere else (where.line, where.column))

    return sorted(problems, key=place)


def _placed(problem: Problem, where: Where | None) -> Problem:
    if problem.where.file or where is None:
        return problem
    return replace(problem, where=where)


def _base(loaded: LoadedRecipe, task: TaskSpec) -> BaseModelFacts:
    model = loaded.recipe.model
    source = find_model(model.name, revision=model.revision, base_dir=loaded.path.parent)
    return probe_base_model(source, task, trust_remote_code=model.trust_remote_code)


def _tokenizer(loaded: LoadedRecipe, base: BaseModelFacts) -> PreTrainedTokenizerBase:
    return load_tokenizer(
        base.source.folder,
        trust_remote_code=loaded.recipe.model.trust_remote_code,
        generates=loaded.recipe.task.generates,
        chat_template=_chat_template(loaded),
    )


def _chat_template(loaded: LoadedRecipe) -> str | None:
    """Return the text of the chat template that the recipe names."""
    name, where = loaded.recipe.model.chat_template, ("model", "chat_template")
    if name is None:
        return None
    return find_chat_template(name, loaded.path.parent, loaded.source.of_value(where))


def _encoder(
    loaded: LoadedRecipe,
    task: TaskSpec,
    base: BaseModelFacts,
    tokenizer: PreTrainedTokenizerBase,
) -> Encoder:
    masking = masking_of(loaded.recipe.training)
    return encoder_for(task, tokenizer, max_length=longest_row(loaded, base), masking=masking)


def _dataset(loaded: LoadedRecipe, rows: RowSources, encoder: Encoder, report: Report) -> Dataset:
    recipe = loaded.recipe
    return load_dataset(
        rows.train,
        encoder,
        evaluation=rows.evaluation,
        split=recipe.evaluation.split if recipe.evaluation else None,
        seed=recipe.seed,
        report=report,
    )


def _check_expected_answers(
    loaded: LoadedRecipe, dataset: Dataset, tokenizer: PreTrainedTokenizerBase
) -> None:
    evaluation, rows = loaded.recipe.evaluation, dataset.evaluation
    if not (evaluation and evaluation.answers and loaded.recipe.task.generates):
        return
    metric, labels = evaluation.answers.metric, evaluation.answers.labels or ()
    stops = stop_tokens(tokenizer, read_template(tokenizer)).values()
    problems: list[tuple[Where, str]] = []
    for row, example in zip(rows, rows.examples(), strict=True):
        expected = expected_answer(row, example, tokenizer, stops)
        if problem := expectation_problem(metric, expected, labels):
            problems.append((Where(row.file, row.line), problem))
    if problems:
        hint = "mend the rows, or compare with `evaluation.answers: exact_match`"
        raise PlanError.from_problems(row_problems(problems, hint))
