"""A plan becomes a run directory: complete, repeatable, and never over something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.engine.run import run
from lora_cli.errors import PlanError, RunError
from lora_cli.events import (
    AnswersDone,
    CheckpointSaved,
    Evaluated,
    RunStarted,
    Stage,
    StepDone,
)
from lora_cli.plan.run_plan import RunPlan
from tests.engine.conftest import EVERYTHING, Finished
from tests.helpers.runs import losses_of, metrics_of, of_kind, plan_of, train, write_recipe

TinyModel = Callable[[str], Path]


def test_the_run_directory_holds_everything(finished: Finished) -> None:
    assert sorted(path.name for path in finished.folder.iterdir()) == [
        "README.md",
        "adapter",
        "answers.jsonl",
        "checkpoints",
        "loss.png",
        "metrics.jsonl",
        "plan.json",
        "probes.json",
        "recipe.yaml",
        "report.html",
        "result.json",
    ]
    assert sorted(path.name for path in (finished.folder / "checkpoints").iterdir()) == [
        "step-000004",
        "step-000006",
    ]


def test_the_plan_and_the_recipe_are_kept_as_they_were(finished: Finished) -> None:
    kept = RunPlan.from_json((finished.folder / "plan.json").read_text("utf-8"))
    assert kept == finished.plan
    assert kept.digest == finished.result.digest
    assert (finished.folder / "recipe.yaml").read_text("utf-8") == finished.plan.recipe_text


def test_the_result_file_says_what_the_run_returned(finished: Finished) -> None:
    written = json.loads((finished.folder / "result.json").read_text("utf-8"))
    assert written == json.loads(finished.result.to_json())
    steps, evaluations = metrics_of(finished.folder), metrics_of(finished.folder, "evaluation")
    assert written["steps"] == 6 == len(steps)
    assert written["final_loss"] == steps[-1]["loss"]
    assert written["tokens"] == sum(step["tokens"] for step in steps)
    assert written["seconds"] == pytest.approx(sum(step["seconds"] for step in steps))
    assert written["peak_memory_bytes"] == max(step["memory_bytes"] for step in steps)
    assert written["best_evaluation_loss"] == min(line["loss"] for line in evaluations)
    assert set(written["scores"]) == {"base", "adapter"}


def test_events_come_in_the_order_of_the_story(finished: Finished) -> None:
    kinds = [type(event) for event in finished.events]
    training = [RunStarted, StepDone, StepDone, CheckpointSaved, StepDone, Evaluated]
    training += [StepDone, CheckpointSaved, StepDone, StepDone, Evaluated, CheckpointSaved]
    assert kinds[:2] == [Stage, Stage]
    assert kinds[2:14] == training
    assert kinds[14:16] == [Stage, Stage]
    assert set(kinds[16:]) == {AnswersDone}


def test_metrics_hold_what_the_events_said(finished: Finished) -> None:
    steps = of_kind(finished.events, StepDone)
    for line, event in zip(metrics_of(finished.folder), steps, strict=True):
        assert line == {"kind": "step", **{name: getattr(event, name) for name in event.__slots__}}


def test_two_runs_of_a_plan_are_bit_identical(
    finished: Finished, tmp_path: Path, tiny_model: TinyModel
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama"), **EVERYTHING))
    assert plan.digest == finished.plan.digest, "the same recipe in another folder"
    train(plan)
    again = tmp_path / "run"
    for name in (
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "answers.jsonl",
    ):
        assert (again / name).read_bytes() == (finished.folder / name).read_bytes(), name
    timing = {"seconds": 0, "memory_bytes": 0}
    for kind in ("step", "evaluation"):
        first, second = metrics_of(finished.folder, kind), metrics_of(again, kind)
        assert [line | timing for line in first] == [line | timing for line in second]


def test_the_schedule_is_the_planned_one(finished: Finished) -> None:
    rates = [line["learning_rate"] for line in metrics_of(finished.folder)]
    assert rates[0] == 0.0, "one step of warm-up, from 0"
    assert rates[1] == max(rates) == 0.02
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_a_second_run_in_the_same_place_is_refused(finished: Finished) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}
    with pytest.raises(PlanError, match=r"holds a finished run already.*--overwrite"):
        train(finished.plan)
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")} == before


def test_overwrite_replaces_the_run_and_leaves_what_is_not_its_own(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama")))
    train(plan)
    notes = tmp_path / "run" / "notes.txt"
    notes.write_text("mine")
    (tmp_path / "run" / "answers.jsonl").write_text("of an earlier recipe")
    other = plan_of(write_recipe(tmp_path, tiny_model("llama"), training={"steps": 2}))
    result, _ = train(other, overwrite=True)
    assert result.steps == 2 == len(metrics_of(tmp_path / "run"))
    assert notes.read_text() == "mine"
    assert not (tmp_path / "run" / "answers.jsonl").exists()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000002"]


def test_a_run_that_cannot_begin_replaces_nothing(tmp_path: Path, tiny_model: TinyModel) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama"), training={"steps": 1}))
    train(plan)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(RunError, match=r"rows\.jsonl: changed after the plan was made"):
        run(plan, lambda _event: None, overwrite=True)
    assert (tmp_path / "run" / "result.json").is_file()
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("scheduler", ["linear", "constant"])
def test_the_other_schedules_train_too(
    tmp_path: Path, tiny_model: TinyModel, scheduler: str
) -> None:
    training = {"scheduler": scheduler, "steps": 5, "warmup_ratio": 0.3}
    train(plan_of(write_recipe(tmp_path, tiny_model("llama"), training=training)))
    rates = [line["learning_rate"] for line in metrics_of(tmp_path / "run")]
    falling = {"linear": [0.01, 0.02 / 3, 0.01 / 3], "constant": [0.01, 0.01, 0.01]}
    assert rates == pytest.approx([0.0, 0.005, *falling[scheduler]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_base_in_half_precision_learns_as_in_float32(
    tmp_path: Path, tiny_model: TinyModel, dtype: str
) -> None:
    """A plan refuses float16 on a CPU for its speed; the engine can, and scales its losses."""
    curves = []
    for precision in ("float32", dtype):
        (tmp_path / precision).mkdir()
        plan = plan_of(write_recipe(tmp_path / precision, tiny_model("llama")))
        model = plan.model.model_copy(update={"dtype": precision})
        result, _ = train(plan.model_copy(update={"model": model}))
        curves.append(losses_of(result.run_dir))
    assert curves[1] == pytest.approx(curves[0], abs=0.02)
    assert curves[1] != curves[0]
