"""A loaded recipe → its plan: probe the world, then resolve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lora_cli.data.load import Dataset, load_dataset
from lora_cli.data.source import row_problems
from lora_cli.data.tokenize import Tokenizer
from lora_cli.errors import LoraCliError, PlanError, Problem, Where
from lora_cli.facts.base_model import BaseModelFacts, probe_base_model
from lora_cli.facts.machine import probe_machine
from lora_cli.facts.model_source import find_model
from lora_cli.facts.tokenizer import chat_template_sha256, load_tokenizer, tokenizer_sha256
from lora_cli.facts.weight_files import check_weight_files
from lora_cli.plan.inputs import Facts, longest_row
from lora_cli.plan.paths import RowSources, row_sources
from lora_cli.plan.resolve import resolve_plan
from lora_cli.plan.run_folder import run_folder
from lora_cli.plan.run_plan import RunPlan
from lora_cli.plan.tokens import trained_tokens
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.targets.match import match_targets
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


def make_plan(loaded: LoadedRecipe) -> RunPlan:
    """Return the plan of a recipe on this machine. Reads data and tokenizer, loads no weights.

    Raises:
        PlanError: with every problem that could be found.
    """
    probes, source = _Probes(), loaded.source
    at_model = source.of_value(("model", "name"))
    spec = loaded.recipe.adapter
    rows = probes.run(lambda: row_sources(loaded))
    base = probes.run(lambda: _base(loaded), at_model)
    if base:
        probes.run(lambda: check_weight_files(base.source, base.shapes), at_model)
    matched = probes.run(lambda: match_targets(spec, base, source)) if base else None
    tokenizer = probes.run(lambda: _tokenizer(loaded, base), at_model) if base else None
    tokens = None
    if base and tokenizer:
        tokens = probes.run(lambda: trained_tokens(loaded, base, tokenizer))
    dataset = None
    if rows and base and tokenizer:
        at_split = source.of_value(("evaluation", "split"))
        dataset = probes.run(lambda: _dataset(loaded, rows, base, tokenizer), at_split)
    machine = probes.run(probe_machine)
    folder = probes.run(lambda: run_folder(loaded), source.of_value(("output", "dir")))
    if probes.problems or not (base and matched and tokenizer and dataset and machine and folder):
        raise PlanError.from_problems(_in_order(probes.problems, loaded.path))
    facts = Facts(
        machine=machine,
        base=base,
        matched=matched,
        token_ids=tokens or (),
        dataset=dataset.facts,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        chat_template_sha256=chat_template_sha256(tokenizer),
        run_dir=folder,
    )
    return resolve_plan(loaded, facts)


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


def _base(loaded: LoadedRecipe) -> BaseModelFacts:
    model = loaded.recipe.model
    source = find_model(model.name, revision=model.revision, base_dir=loaded.path.parent)
    return probe_base_model(source, trust_remote_code=model.trust_remote_code)


def _tokenizer(loaded: LoadedRecipe, base: BaseModelFacts) -> PreTrainedTokenizerBase:
    trusted = loaded.recipe.model.trust_remote_code
    return load_tokenizer(base.source.folder, trust_remote_code=trusted)


def _dataset(
    loaded: LoadedRecipe,
    rows: RowSources,
    base: BaseModelFacts,
    tokenizer: PreTrainedTokenizerBase,
) -> Dataset:
    recipe = loaded.recipe
    dataset = load_dataset(
        rows.train,
        Tokenizer(tokenizer, max_length=longest_row(loaded, base)),
        evaluation=rows.evaluation,
        split=recipe.evaluation.split if recipe.evaluation else None,
        seed=recipe.seed,
    )
    if recipe.evaluation and recipe.evaluation.answers:
        metric = recipe.evaluation.answers.metric
        problems = [
            (Where(row.file, row.line), problem)
            for row in dataset.evaluation
            if (problem := expectation_problem(metric, row.example.answer))
        ]
        if problems:
            hint = "mend the rows, or compare with `evaluation.answers: exact_match`"
            raise PlanError.from_problems(row_problems(problems, hint))
    return dataset
