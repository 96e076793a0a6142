"""The plan's task: its labels, what it changes in the model, and what it cannot go with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_cli.errors import PlanError, Problem
from lora_cli.plan.run_plan import RunPlan
from lora_cli.plan.task_part import config_changes
from tests.helpers.runs import plan_of
from tests.helpers.task_rows import write_case
from tests.helpers.tiny_models import write_rows


def problems_of(recipe: Path, *flags: str) -> list[Problem]:
    with pytest.raises(PlanError) as caught:
        plan_of(recipe, *flags)
    return list(caught.value.problems)


def decision(plan: RunPlan, field: str) -> tuple[str, str]:
    return next((d.value, d.reason) for d in plan.decisions if d.field == field)


def test_labels_are_found_in_the_rows_and_said(tmp_path: Path) -> None:
    plan = plan_of(write_case(tmp_path, "bert_texts"))
    assert decision(plan, "task.labels") == ("bad, good", "found in the rows: 2")
    assert decision(plan, "task.name") == ("sequence_classification", "recipe.yaml:5")
    assert decision(plan, "adapter.modules_to_save")[1] == "the task's own head"
    assert RunPlan.from_json(plan.to_json()) == plan
    assert config_changes(plan) == {
        "num_labels": 2,
        "id2label": {0: "bad", 1: "good"},
        "label2id": {"bad": 0, "good": 1},
        "problem_type": "single_label_classification",
        "pad_token_id": 0,
    }


def test_labels_that_the_recipe_names_keep_its_order(tmp_path: Path) -> None:
    plan = plan_of(write_case(tmp_path, "bert_texts"), "task.labels=[good, bad, never]")
    assert decision(plan, "task.labels") == ("good, bad, never", "--set")
    assert plan.task.label_names() == ("good", "bad", "never")


def test_a_decoder_without_padding_pads_with_its_end(tmp_path: Path) -> None:
    plan = plan_of(write_case(tmp_path, "llama_texts"))
    assert config_changes(plan)["pad_token_id"] == plan.model.padding_token == 257


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("task.labels=[good]", "`good` is the only label"),
        ("task.labels=[good, bad, good]", "the label `good` stands there twice"),
        ("task.problem=regression", "regression learns a number, and has no labels"),
    ],
)
def test_labels_that_cannot_be(tmp_path: Path, flag: str, message: str) -> None:
    labels = {"name": "sequence_classification", "labels": ["good", "bad"]}
    problems = problems_of(write_case(tmp_path, "bert_texts", task=labels), flag)
    assert problems[0].message == message
    assert problems[0].where.key == "task.labels"


def test_a_label_that_is_not_named_is_told_with_its_line(tmp_path: Path) -> None:
    problems = problems_of(write_case(tmp_path, "bert_texts"), "task.labels=[good, fair]")
    assert problems[0].message == "the label `bad` is none of good, fair"
    assert (Path(problems[0].where.file).name, problems[0].where.line) == ("rows.jsonl", 2)


def test_one_label_is_nothing_to_learn(tmp_path: Path) -> None:
    recipe = write_case(tmp_path, "bert_texts")
    write_rows(tmp_path / "rows.jsonl", [{"text": "a", "label": "x"}] * 3)
    (problem,) = problems_of(recipe)
    assert problem.message == "`x` is the only label: there is nothing to tell apart"


@pytest.mark.parametrize("variant", ["prompt_tuning", "prefix_tuning", "p_tuning"])
def test_vectors_in_front_are_for_causal_models(tmp_path: Path, variant: str) -> None:
    recipe = write_case(tmp_path, "t5", adapter={"variant": variant})
    (problem,) = problems_of(recipe)
    assert problem.message == f"{variant} is for causal_lm in this version, not for seq2seq_lm"
    assert problem.where.key == "adapter.variant"


def test_a_start_from_inputs_is_refused_where_the_decoder_has_its_own(tmp_path: Path) -> None:
    (problem,) = problems_of(write_case(tmp_path, "t5", adapter={"variant": "eva"}))
    assert problem.message.startswith("eva with seq2seq_lm: its start is computed from")


ANSWERED = "evaluation.answers="


@pytest.mark.parametrize(
    ("case", "answers", "message"),
    [
        (
            "bert_texts",
            "exact_match",
            "`evaluation.answers` compares texts, and sequence_classification writes none",
        ),
        ("t5", "{metric: rouge_l, labels: [a, b]}", "`labels` are for the metric label_words, not"),
        (
            "t5",
            "{metric: label_words, labels: [sunny, grim, happy, sad, bright, dull, warm, cold]}",
            "label_words are for causal_lm, not for seq2seq_lm",
        ),
    ],
)
def test_answers_that_a_task_does_not_give(
    tmp_path: Path, case: str, answers: str, message: str
) -> None:
    (problem,) = problems_of(write_case(tmp_path, case), ANSWERED + answers)
    assert problem.message.startswith(message)


def test_label_words_need_labels(recipe_file: Callable[..., Path]) -> None:
    recipe = recipe_file(evaluation={"split": 0.2})
    (problem,) = problems_of(recipe, f"{ANSWERED}label_words")
    assert problem.message == "label_words chooses among labels, and needs two or more"


def test_an_answer_that_is_no_label_is_told_with_its_line(
    recipe_file: Callable[..., Path],
) -> None:
    recipe = recipe_file(evaluation={"split": 0.2})
    problems = problems_of(recipe, f"{ANSWERED}{{metric: label_words, labels: [a, b]}}")
    assert problems[0].message == "the expected answer is none of the labels a, b"


@pytest.mark.parametrize(
    ("case", "absent", "flags", "message"),
    [
        ("bert_words", "seqeval", (), "measuring token_classification needs the package seqeval"),
        ("t5", "rouge_score", (f"{ANSWERED}rouge_l",), "rouge_l needs the package rouge-score"),
    ],
)
def test_packages_that_are_not_installed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    absent: str,
    flags: tuple[str, ...],
    message: str,
) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == absent else find_spec(name, *rest)

    recipe = write_case(tmp_path, case)
    plan_of(recipe, *flags)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    (problem,) = problems_of(recipe, *flags)
    assert problem.message == message
    assert problem.hint.startswith("pip install")


def test_a_list_of_labels_is_told_with_the_other_bad_rows(tmp_path: Path) -> None:
    recipe = write_case(tmp_path, "bert_texts")
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": ["x", "y"]}, {"text": ""}]
    write_rows(tmp_path / "rows.jsonl", rows)
    problems = problems_of(recipe)
    assert [problem.where.line for problem in problems] == [2, 3]
    assert problems[0].message.endswith("with `task.problem: multi_label` it can have them")
