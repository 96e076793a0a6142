"""The plan on the terminal and in a pipe."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from lora_cli.console.plan import make_and_show_plan, show_summary, show_warnings
from lora_cli.console.preview_words import findings
from lora_cli.engine.preview import preview_of_plan
from lora_cli.plan.make import make_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import load_recipe
from tests.helpers.task_rows import write_case

WriteRecipe = Callable[..., Path]
ONE_ROW = {"path": "rows.jsonl", "max_rows": 1}


@pytest.fixture
def plan(recipe_file: WriteRecipe) -> RunPlan:
    return make_plan(load_recipe(recipe_file(evaluation=0.25)))


def test_the_summary_says_what_will_be_trained(plan: RunPlan) -> None:
    text = io.StringIO()
    show_summary(plan, Console(file=text, highlight=False))
    summary = text.getvalue()
    for piece in (
        "LlamaForCausalLM",
        "lora, rank 4, alpha 8, scaling 2",
        "4,096 trainable",
        "14: 2 q_proj, 2 k_proj",
        "(24 rows, messages)",
        "training      18 rows, ",
        "supervised",
        "6 rows (25% split) every 4 steps",
        "4 steps, 0.8 epochs, of 4 rows (4 × 1)",
        "after 1 warm-up step",
        "cosine",
        plan.run_dir,
    ):
        assert piece in summary


def test_one_of_each_is_said_in_the_singular(recipe_file: WriteRecipe) -> None:
    training = {"steps": 1, "batch_size": 1}
    plan = make_plan(load_recipe(recipe_file(dataset=ONE_ROW, training=training)))
    text = io.StringIO()
    show_summary(plan, Console(file=text, highlight=False))
    summary = text.getvalue()
    assert "(1 row, messages)" in summary
    assert "1 step, 1 epoch, of 1 row (1 × 1)" in summary
    assert not re.search(r"\b1 \w+s\b", summary)


def test_a_run_that_is_there_already_is_told(
    recipe_file: WriteRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_recipe(recipe_file())
    make_and_show_plan(loaded, as_json=False)
    assert "holds a run already" not in capsys.readouterr().out
    folder = Path(make_plan(loaded).run_dir)
    folder.mkdir()
    (folder / "plan.json").touch()
    make_and_show_plan(loaded, as_json=False)
    assert f"warning: {folder}: holds a run already (--resume" in capsys.readouterr().out


def test_a_pipe_gets_one_line_a_value_however_long(plan: RunPlan) -> None:
    text = io.StringIO()
    show_summary(plan, Console(file=text, highlight=False, width=40))
    line = next(line for line in text.getvalue().splitlines() if line.startswith("output"))
    assert line.split() == ["output", plan.run_dir]


def test_a_terminal_folds_to_its_width(plan: RunPlan) -> None:
    text = io.StringIO()
    show_summary(plan, Console(file=text, force_terminal=True, width=60, highlight=False))
    assert len(text.getvalue().splitlines()) > 14


def test_warnings_are_marked(plan: RunPlan) -> None:
    text = io.StringIO()
    show_warnings(plan, Console(file=text, highlight=False))
    assert "warning: a learning rate of 0.01 is over 0.0005, " in text.getvalue()


def test_the_command_prints_every_decision_and_the_digest(
    recipe_file: WriteRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_recipe(recipe_file())
    make_and_show_plan(loaded, as_json=False)
    shown = capsys.readouterr().out
    plan = make_plan(loaded)
    assert all(decision.field in shown for decision in plan.decisions)
    assert f"digest {plan.digest}" in shown


def test_json_is_the_plan_that_the_engine_reads(
    recipe_file: WriteRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_recipe(recipe_file())
    make_and_show_plan(loaded, as_json=True)
    assert RunPlan.from_json(capsys.readouterr().out) == make_plan(loaded)


def test_a_plan_that_adapts_no_module_says_so(recipe_file: WriteRecipe) -> None:
    plan = make_plan(load_recipe(recipe_file(adapter="prompt_tuning")))
    text = io.StringIO()
    show_summary(plan, Console(file=text, highlight=False))
    assert "prompt_tuning, 20 virtual tokens: 640 trainable" in text.getvalue()
    assert re.search(r"^modules +none$", text.getvalue(), re.MULTILINE)


@pytest.mark.parametrize(("case", "learnt"), [("bert_texts", "label"), ("bert_words", "tag")])
def test_a_classifier_has_no_figures_of_text(tmp_path: Path, case: str, learnt: str) -> None:
    plan = make_plan(load_recipe(write_case(tmp_path, case)))
    text = io.StringIO()
    show_summary(plan, Console(file=text, highlight=False))
    summary = text.getvalue()
    assert f" {learnt}s to learn" in summary
    told = (summary, *(finding.text for finding in findings(plan, preview_of_plan(plan, 0))))
    for piece in ("answers end", "chat template", "supervised", "trained on"):
        assert piece not in "".join(told)
    fields = {decision.field for decision in plan.decisions}
    assert not {"model.stop_tokens", "dataset.supervised_tokens"} & fields


def test_the_need_of_memory_is_a_line_and_no_part_of_the_plan(
    recipe_file: WriteRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_recipe(recipe_file())
    make_and_show_plan(loaded, as_json=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory")]
    assert re.search(r"[GM]iB of [\d.]+ GiB: (fits|tight|does not fit) \(by arithmetic; ", line)
    make_and_show_plan(loaded, as_json=True)
    assert capsys.readouterr().out == make_plan(loaded).to_json()
