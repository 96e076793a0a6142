"""The plan's rows: files, counts, tokens, and what was dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_cli.plan.inputs import Facts
from lora_cli.plan.resolve import resolve_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe
from tests.helpers.tiny_models import sum_rows, write_rows

Probed = Callable[..., tuple[LoadedRecipe, Facts]]
Planned = Callable[..., RunPlan]


def decision(plan: RunPlan, field: str) -> tuple[str, str]:
    found = next(d for d in plan.decisions if d.field == field)
    return found.value, found.reason


def test_the_figures_are_those_of_the_facts(probed: Probed) -> None:
    loaded, facts = probed(evaluation=0.25)
    plan = resolve_plan(loaded, facts)
    assert plan.data.train == facts.dataset.train
    assert plan.evaluation is not None
    assert plan.evaluation.tokens == facts.dataset.evaluation
    assert decision(plan, "dataset.tokens")[0] == f"{facts.dataset.train.total:,}"
    assert decision(plan, "dataset.train_rows")[0] == "18"
    share = facts.dataset.train.supervised / facts.dataset.train.total
    assert decision(plan, "dataset.supervised_tokens")[1] == f"{share:.1%} of the tokens"


def test_a_source_is_its_file_and_its_digest(planned: Planned, tmp_path: Path) -> None:
    plan = planned()
    (source,) = plan.data.sources
    content = (tmp_path / "rows.jsonl").read_bytes()
    (file,) = source.files
    assert file.file == str(tmp_path / "rows.jsonl")
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert (source.format, source.rows, source.kept) == ("messages", 24, 24)
    assert decision(plan, "dataset[0].format") == ("messages", "the columns are `messages`")
    assert decision(plan, "dataset[0].path")[1].startswith("recipe.yaml:")
    assert decision(plan, "dataset[0].rows") == ("24", "dropped: 0 of 24 rows")


def test_a_format_that_is_written_has_its_line(planned: Planned) -> None:
    written = planned(dataset={"path": "rows.jsonl", "format": "messages"})
    assert decision(written, "dataset[0].format")[1].startswith("recipe.yaml:")
    left_open = planned(dataset={"path": "rows.jsonl", "format": "auto"})
    assert decision(left_open, "dataset[0].format")[1] == "the columns are `messages`"


def test_dropped_rows_are_kept_with_their_place(planned: Planned, tmp_path: Path) -> None:
    planned()
    text = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "other.jsonl").write_text(text + '{"messages": \n{"messages": []}\n')
    plan = planned(dataset={"path": "other.jsonl", "on_bad_row": "skip"})
    assert plan.data.sources[0].dropped == (
        "25:14: not JSON: Expecting value",
        "26: column `messages` must be a list of turns that is not empty",
    )
    assert plan.data.sources[0].dropped_by_reason == {
        "not JSON: Expecting value": 1,
        "column `messages` must be a list of turns that is not empty": 1,
    }
    assert decision(plan, "dataset[0].rows") == ("24", "dropped: 2 of 26 rows")


def test_several_sources(planned: Planned) -> None:
    plan = planned(
        dataset=["rows.jsonl", {"path": "rows.jsonl", "max_rows": 3, "format": "messages"}]
    )
    assert [source.kept for source in plan.data.sources] == [24, 3]
    assert [source.max_rows for source in plan.data.sources] == [None, 3]
    assert plan.data.train.rows == 27
    assert decision(plan, "dataset[0].max_rows") == ("none", "default")
    assert decision(plan, "dataset[1].max_rows")[0] == "3"


@pytest.mark.parametrize(
    ("training", "given", "every"),
    [
        ({"batch_size": 4, "epochs": 3}, {}, 5),
        ({"batch_size": 4, "steps": 2}, {}, 2),
        ({"batch_size": 4, "epochs": 3}, {"every_steps": 7}, 7),
    ],
)
def test_evaluation_comes_once_an_epoch_unless_it_is_said(
    planned: Planned, training: dict[str, Any], given: dict[str, Any], every: int
) -> None:
    plan = planned(training=training, evaluation={"split": 0.2, **given})
    assert plan.evaluation is not None
    assert plan.evaluation.every_steps == every
    reason = decision(plan, "evaluation.every_steps")[1]
    assert (reason == "default: once an epoch") == (not given)


def test_an_evaluation_file(planned: Planned, tmp_path: Path) -> None:
    write_rows(tmp_path / "apart.jsonl", sum_rows(5))
    evaluation = {"path": "apart.jsonl", "batch_size": 3, "patience": 2}
    plan = planned(
        dataset={"path": "rows.jsonl", "max_rows": 9, "system_prompt": "Be."},
        evaluation=evaluation,
    ).evaluation
    assert plan is not None
    assert plan.source is not None
    assert [file.file for file in plan.source.files] == [str(tmp_path / "apart.jsonl")]
    assert plan.source.rows == 5
    assert (plan.source.max_rows, plan.source.system_prompt) == (None, "Be.")
    assert (plan.split, plan.batch_size, plan.patience) == (None, 3, 2)
    assert plan.tokens.rows == 5
    assert plan.answers is None


def test_answers_to_compare(planned: Planned) -> None:
    answers = {"metric": "exact_match", "max_new_tokens": 9}
    plan = planned(evaluation={"split": 0.25, "answers": answers})
    assert plan.evaluation is not None
    assert plan.evaluation.answers is not None
    expected = {**answers, "batch_size": 16, "labels": None}
    assert plan.evaluation.answers.model_dump() == expected
    assert decision(plan, "evaluation.answers.batch_size") == ("16", "default")
    assert decision(plan, "evaluation.split")[1].startswith("recipe.yaml:")
    assert decision(plan, "evaluation.path") == ("none", "default")
