"""A loaded recipe → its plan: probe the world, then resolve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lora_cli.data.load import load_dataset
from lora_cli.data.tokenize import Tokenizer
from lora_cli.errors import LoraCliError, PlanError, Problem, Where
from lora_cli.facts.base_model import BaseModelFacts, probe_base_model
from lora_cli.facts.machine import probe_machine
from lora_cli.facts.model_source import find_model
from lora_cli.facts.tokenizer import load_tokenizer
from lora_cli.files import sha256_of_text
from lora_cli.plan.paths import dataset_sources, evaluation_source, output_folder
from lora_cli.plan.resolve import Facts, longest_row, resolve_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.targets.match import Matched, match_targets

T = TypeVar("T")


def make_plan(loaded: LoadedRecipe) -> RunPlan:
    """Return the plan of a recipe on this machine. Reads data and tokenizer, no weights.

    Raises:
        PlanError: with every problem that could be found.
    """
    problems: list[Problem] = []
    sources = _collect(problems, lambda: dataset_sources(loaded))
    evaluation = _collect(problems, lambda: evaluation_source(loaded))
    base = _collect(problems, lambda: _probe_base(loaded))
    matched = _collect(problems, lambda: _match(loaded, base)) if base else None
    if problems or sources is None or base is None or matched is None:
        raise PlanError.from_problems(problems)

    model = loaded.recipe.model
    hf_tokenizer = load_tokenizer(base.source.folder, trust_remote_code=model.trust_remote_code)
    split = loaded.recipe.evaluation.split if loaded.recipe.evaluation else None
    dataset = load_dataset(
        sources,
        Tokenizer(hf_tokenizer, max_length=longest_row(loaded.recipe, base)),
        evaluation=evaluation,
        split=split,
        seed=loaded.recipe.seed,
    )
    template = hf_tokenizer.chat_template
    facts = Facts(
        machine=probe_machine(),
        base=base,
        matched=matched,
        dataset=dataset.facts,
        chat_template_sha256=sha256_of_text(str(template)) if template else None,
        run_dir=output_folder(loaded),
    )
    return resolve_plan(loaded, facts)


def _collect(problems: list[Problem], probe: Callable[[], T]) -> T | None:
    try:
        return probe()
    except LoraCliError as error:
        problems += error.problems
        return None


def _probe_base(loaded: LoadedRecipe) -> BaseModelFacts:
    section = loaded.recipe.model
    where = loaded.source.of_value(("model", "name"))
    try:
        source = find_model(section.name, revision=section.revision, base_dir=Path(loaded.path).parent)
        return probe_base_model(source, trust_remote_code=section.trust_remote_code)
    except PlanError as error:
        raise PlanError.from_problems([_placed(problem, where) for problem in error.problems]) from error


def _placed(problem: Problem, where: Where) -> Problem:
    return Problem(where, problem.message, problem.hint)


def _match(loaded: LoadedRecipe, base: BaseModelFacts | None) -> Matched:
    assert base is not None
    where = loaded.source.of_value(("adapter", "target_modules"))
    return match_targets(loaded.recipe.adapter.target_modules, base, where)
