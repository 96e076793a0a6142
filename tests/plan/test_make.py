"""From a recipe to its plan: nothing heavy is read, and everything wrong is told at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_cli.errors import PlanError, Problem
from lora_cli.plan.make import make_plan
from lora_cli.recipe.load import load_recipe
from tests.helpers.tiny_models import chat_row, write_rows

WriteRecipe = Callable[..., Path]
NOWHERE = {"name": "./no-such-model"}


def problems_of(recipe: Path, *flags: str) -> tuple[Problem, ...]:
    with pytest.raises(PlanError) as caught:
        make_plan(load_recipe(recipe, flags))
    return caught.value.problems


def keys_of(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.where.key for problem in problems]


def line_of(recipe: Path, text: str) -> int:
    lines = recipe.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_all_that_is_missing_is_told_at_once(recipe_file: WriteRecipe) -> None:
    recipe = recipe_file(
        model=NOWHERE,
        dataset=["gone.jsonl", "rows.jsonl", "lost.jsonl"],
        evaluation={"path": "away.jsonl"},
    )
    problems = problems_of(recipe)
    assert keys_of(problems) == [
        "model.name",
        "dataset[0].path",
        "dataset[2].path",
        "evaluation.path",
    ]
    for problem, text in zip(problems, ("no-such-model", "gone", "lost", "away"), strict=True):
        assert problem.where.line == line_of(recipe, text)
        assert text in problem.message


def test_bad_targets_and_a_missing_dataset_together(recipe_file: WriteRecipe) -> None:
    adapter = {"variant": "lora", "target_modules": ["q_proj", "q_prj"]}
    problems = problems_of(recipe_file(adapter=adapter, dataset="gone.jsonl"))
    assert keys_of(problems) == ["adapter.target_modules[1]", "dataset.path"]


def test_bad_targets_bad_rows_and_a_bad_launcher_together(
    recipe_file: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "many")
    recipe = recipe_file(adapter={"variant": "lora", "target_modules": ["q_prj"]})
    write_rows(tmp_path / "rows.jsonl", [chat_row("a", "b"), chat_row("a", "")])
    problems = problems_of(recipe)
    assert [problem.message for problem in problems] == [
        "`q_prj` matches no module of LlamaForCausalLM",
        "turn 2: the assistant's answer is empty; write it",
        "WORLD_SIZE is `many`, not a number of processes",
    ]
    assert str(problems[1].where) == f"{tmp_path}/rows.jsonl:2"


def test_a_model_without_a_tokenizer(
    recipe_file: WriteRecipe, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model("llama"), base)
    for path in base.glob("tokenizer*"):
        path.unlink()
    (problem,) = problems_of(recipe_file(model={"name": "base"}))
    assert problem.where.key == "model.name"
    assert problem.message.startswith(f"the tokenizer in {base} cannot be loaded")


def test_parameters_are_counted_without_weights(recipe_file: WriteRecipe) -> None:
    plan = make_plan(load_recipe(recipe_file()))
    layer = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32 + 2 * 32
    assert plan.model.parameters == 2 * 259 * 32 + 2 * layer + 32


def test_broken_weights_bad_rows_and_a_taken_output_together(
    recipe_file: WriteRecipe, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model("llama"), base)
    (base / "model.safetensors").write_bytes(b"no weights at all")
    recipe = recipe_file(model={"name": "base"})
    write_rows(tmp_path / "rows.jsonl", [chat_row("a", "")])
    (tmp_path / "run").touch()
    output, weights, row = problems_of(recipe)
    assert str(weights).startswith(f"{base}/model.safetensors: is no whole safetensors file: ")
    assert row.message == "turn 2: the assistant's answer is empty; write it"
    assert (output.where.key, output.where.line) == ("output.dir", line_of(recipe, "  dir: "))
    assert output.message.endswith(f"{tmp_path}/run is a file")


def test_a_broken_chat_template_is_one_problem_however_many_rows_and_files(
    recipe_file: WriteRecipe, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model("llama"), base)
    (base / "chat_template.jinja").write_text("{% for message in messages %}\n{{ message. }}")
    recipe = recipe_file(model={"name": "base"}, dataset=["rows.jsonl", "more.jsonl"])
    shutil.copy(tmp_path / "rows.jsonl", tmp_path / "more.jsonl")
    (problem,) = problems_of(recipe)
    assert str(problem.where) == f"{base}/chat_template.jinja:2"
    assert problem.message.startswith("the chat template is not valid Jinja: ")
    for name in ("rows.jsonl", "more.jsonl"):
        write_rows(tmp_path / name, [{"prompt": "a", "completion": "b"}])
    assert make_plan(load_recipe(recipe)).data.train.rows == 2, "no conversation needs it"


def test_a_split_that_is_too_large_is_told_at_its_line(
    recipe_file: WriteRecipe, tmp_path: Path
) -> None:
    recipe = recipe_file(evaluation={"split": 0.9})
    write_rows(tmp_path / "rows.jsonl", [chat_row("a", "b")])
    (problem,) = problems_of(recipe)
    assert problem.where.line == line_of(recipe, "split: 0.9")
    assert problem.message == "a share of 0.9 of 1 row leaves nothing to train on"


def test_a_flag_is_named_as_the_place(recipe_file: WriteRecipe) -> None:
    (problem,) = problems_of(recipe_file(), "model.name=./gone")
    assert str(problem.where) == "--set model.name=./gone model.name"


JSON_FIELDS: dict[str, Any] = {"path": "apart.jsonl", "answers": "json_fields"}


def test_expected_answers_must_be_what_they_are_compared_as(
    recipe_file: WriteRecipe, tmp_path: Path
) -> None:
    recipe = recipe_file(evaluation=JSON_FIELDS)
    answers = ['{"a": 1}', "no JSON", "[1]", "{}", '{"a": 1, "a": 2}', '{"b": [2]}']
    write_rows(tmp_path / "apart.jsonl", [chat_row("q", answer) for answer in answers])
    problems = problems_of(recipe)
    places = [str(problem.where) for problem in problems]
    assert places == [f"{tmp_path}/apart.jsonl:{line}" for line in (2, 3, 4, 5)]
    message = "the expected answer is not a JSON mapping with fields, as `json_fields` needs"
    assert {problem.message for problem in problems} == {message}
    assert problems[-1].hint == ("mend the rows, or compare with `evaluation.answers: exact_match`")


def test_expected_answers_of_a_split_are_looked_for_in_the_training_file(
    recipe_file: WriteRecipe, tmp_path: Path
) -> None:
    recipe = recipe_file(evaluation={"split": 0.5, "answers": "json_fields"})
    write_rows(tmp_path / "rows.jsonl", [chat_row("q", "no JSON")] * 30)
    problems = problems_of(recipe)
    assert problems[0].where.file == f"{tmp_path}/rows.jsonl"
    assert problems[0].where.line > 0
    assert problems[-1].message == "5 more rows cannot be used"


@pytest.mark.parametrize("answers", ["json_fields", "exact_match"])
def test_expected_answers_that_fit_are_planned(
    recipe_file: WriteRecipe, tmp_path: Path, answers: str
) -> None:
    recipe = recipe_file(evaluation={**JSON_FIELDS, "answers": answers})
    text = '{"a": 1}' if answers == "json_fields" else "no JSON"
    write_rows(tmp_path / "apart.jsonl", [chat_row("q", text)])
    plan = make_plan(load_recipe(recipe))
    assert plan.evaluation is not None
    assert plan.evaluation.answers is not None
    assert plan.evaluation.answers.metric == answers


@pytest.mark.parametrize(
    ("variant", "trainable"),
    [
        ("prompt_tuning", 5 * 32),
        ("p_tuning", 5 * 32 + 3 * 33 * 32),
        ("prefix_tuning", 5 * 2 * 2 * 16),
    ],
)
def test_vectors_in_front_adapt_no_module(
    recipe_file: WriteRecipe, variant: str, trainable: int
) -> None:
    adapter = {"variant": variant, "virtual_tokens": 5}
    plan = make_plan(load_recipe(recipe_file(adapter=adapter)))
    assert (plan.adapter.modules, plan.adapter.peft_names) == ((), ())
    assert plan.adapter.trainable_parameters == trainable
    assert plan.adapter.spec.summary() == f"{variant}, 5 virtual tokens"


def test_virtual_tokens_that_leave_no_room_for_a_row(recipe_file: WriteRecipe) -> None:
    recipe = recipe_file(adapter={"variant": "p_tuning", "virtual_tokens": 249})
    (problem,) = problems_of(recipe)
    assert problem.where.key == "adapter.virtual_tokens"
    assert problem.where.line == line_of(recipe, "virtual_tokens")
    assert problem.message == "the model's context of 256 tokens has no room left for rows"
    assert problem.hint == "at most 248"
