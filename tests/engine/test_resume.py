"""A run that was stopped and resumed is, bit for bit, the run that was never stopped."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lora_cli.engine.run import run
from lora_cli.errors import InterruptedRunError, PlanError, RunError
from lora_cli.events import Evaluated, Event, Notice, Resumed, RunStarted, StepDone, StoppedEarly
from lora_cli.plan.run_plan import RunPlan
from lora_cli.tasks.task import Measured
from tests.helpers.runs import metrics_of, of_kind, plan_of, stop_at, train, write_recipe

TinyModel = Callable[[str], Path]
SECTIONS: dict[str, Any] = {
    "adapter": {"dropout": 0.2},
    # 18 training rows in steps of 4: an epoch ends after step 5, its last step smaller
    "training": {"steps": 8, "save_steps": 2, "keep_checkpoints": 9, "learning_rate": 0.02},
    "evaluation": {"split": 0.25, "every_steps": 3},
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Path:
    """The run directory of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(plan_of(write_recipe(folder, tiny_model("llama"), **SECTIONS)))
    return folder / "run"


def make(folder: Path, tiny_model: TinyModel, **changed: Any) -> RunPlan:
    return plan_of(write_recipe(folder, tiny_model("llama"), **{**SECTIONS, **changed}))


def interrupt(plan: RunPlan, step: int) -> None:
    with pytest.raises(InterruptedRunError):
        run(plan, stop_at(step, signal.SIGINT))


def checkpoint_names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (one / "adapter" / name).read_bytes() == (other / "adapter" / name).read_bytes()
    last = "checkpoints/step-000008"
    for name in ("adapter.safetensors", "best_adapter.safetensors", "optimizer.pt", "random.pt"):
        assert (one / last / name).read_bytes() == (other / last / name).read_bytes(), name
    untimed = {"seconds": 0, "memory_bytes": 0}
    for kind in ("step", "evaluation"):
        first, second = metrics_of(one, kind), metrics_of(other, kind)
        assert [line | untimed for line in first] == [line | untimed for line in second]


@pytest.mark.parametrize("step", [1, 3, 5, 7])
def test_stop_and_resume_gives_the_uninterrupted_run(
    tmp_path: Path, tiny_model: TinyModel, uninterrupted: Path, step: int
) -> None:
    """Step 1 is warm-up, 3 an evaluation, 5 the end of an epoch, 7 the step before the last."""
    plan = make(tmp_path, tiny_model)
    interrupt(plan, step)
    assert checkpoint_names(tmp_path / "run")[-1] == f"step-{step:06d}"
    result, events = train(plan, resume=True)
    newest = tmp_path / "run" / "checkpoints" / f"step-{step:06d}"
    assert of_kind(events, Resumed) == [Resumed(step, str(newest))]
    assert of_kind(events, RunStarted) == [RunStarted(8, step + 1)]
    assert [event.step for event in of_kind(events, StepDone)] == list(range(step + 1, 9))
    assert_same_run(tmp_path / "run", uninterrupted)
    whole = json.loads((uninterrupted / "result.json").read_text("utf-8"))
    for name in ("steps", "tokens", "final_loss", "best_step", "best_evaluation_loss"):
        assert getattr(result, name) == whole[name]


def test_a_resumed_run_writes_each_step_once(
    tmp_path: Path, tiny_model: TinyModel, uninterrupted: Path
) -> None:
    """A process that dies has told of more steps than its checkpoint holds."""
    plan = make(tmp_path, tiny_model)

    def die_at_seven(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 7:
            raise MemoryError

    with pytest.raises(MemoryError):
        run(plan, die_at_seven)
    metrics = tmp_path / "run" / "metrics.jsonl"
    assert len(metrics_of(tmp_path / "run")) == 7
    assert checkpoint_names(tmp_path / "run")[-1] == "step-000006"
    with metrics.open("a") as file:
        file.write('{"kind": "step", "st')
    _, events = train(plan, resume=True)
    assert of_kind(events, RunStarted) == [RunStarted(8, 7)]
    assert [line["step"] for line in metrics_of(tmp_path / "run")] == list(range(1, 9))
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "no manifest"])
def test_a_damaged_checkpoint_is_passed_over_and_said_to_be(
    tmp_path: Path, tiny_model: TinyModel, uninterrupted: Path, damage: str
) -> None:
    plan = make(tmp_path, tiny_model)
    interrupt(plan, 6)
    newest = tmp_path / "run" / "checkpoints" / "step-000006"
    tensors = newest / "adapter.safetensors"
    content = tensors.read_bytes()
    if damage == "changed":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        tensors.write_bytes(content[:-8])
    elif damage == "missing":
        tensors.unlink()
    else:
        (newest / "manifest.json").unlink()
    _, events = train(plan, resume=True)
    notice = Notice("checkpoint step-000006 is damaged: going on from step-000004")
    assert of_kind(events, Notice) == [notice]
    assert of_kind(events, RunStarted) == [RunStarted(8, 5)]
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_damaged_checkpoint_is_never_kept_in_place_of_a_whole_one(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    """With one checkpoint to keep, the damaged newer one must not crowd out the next."""
    training = {**SECTIONS["training"], "keep_checkpoints": 2}
    plan = make(tmp_path, tiny_model, training=training)
    interrupt(plan, 6)
    (tmp_path / "run" / "checkpoints" / "step-000006" / "state.json").write_text("{}")
    with pytest.raises(InterruptedRunError):
        run(plan, stop_at(5, signal.SIGTERM), resume=True)
    assert checkpoint_names(tmp_path / "run") == ["step-000004", "step-000005"]
    _, events = train(plan, resume=True)
    assert of_kind(events, Notice) == []
    assert of_kind(events, RunStarted) == [RunStarted(8, 6)]


def test_no_whole_checkpoint_is_an_error(tmp_path: Path, tiny_model: TinyModel) -> None:
    plan = make(tmp_path, tiny_model)
    interrupt(plan, 1)
    (tmp_path / "run" / "checkpoints" / "step-000001" / "manifest.json").write_text("[]")
    with pytest.raises(PlanError, match=r"no whole checkpoint.*--overwrite"):
        train(plan, resume=True)


def test_a_changed_plan_is_refused_with_the_fields_that_differ(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    interrupt(make(tmp_path, tiny_model), 1)
    training = {**SECTIONS["training"], "learning_rate": 0.03, "max_gradient_norm": 2.0}
    changed = make(tmp_path, tiny_model, training=training)
    with pytest.raises(PlanError) as caught:
        train(changed, resume=True)
    assert (
        "different: training.learning_rate, training.max_gradient_norm; "
        "in the plan: schedule.learning_rate, schedule.max_gradient_norm"
    ) in str(caught.value)


def test_a_plan_on_changed_rows_names_their_file(tmp_path: Path, tiny_model: TinyModel) -> None:
    interrupt(make(tmp_path, tiny_model), 1)
    rows = (tmp_path / "rows.jsonl").read_text("utf-8")
    planned = make(tmp_path, tiny_model)
    (tmp_path / "rows.jsonl").write_text(rows.replace("2", "3"), "utf-8")
    changed = plan_of(tmp_path / "recipe.yaml")
    assert changed.digest != planned.digest
    with pytest.raises(PlanError, match=r"different: the rows of rows\.jsonl; in the plan: data\."):
        train(changed, resume=True)


def test_changed_rows_are_refused_by_name(tmp_path: Path, tiny_model: TinyModel) -> None:
    plan = make(tmp_path, tiny_model)
    interrupt(plan, 1)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"messages": []}\n')
    with pytest.raises(RunError, match=r"rows\.jsonl: changed after the plan was made"):
        train(plan, resume=True)


def test_a_finished_run_and_an_empty_place_have_nothing_to_resume(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    plan = make(tmp_path, tiny_model, training={"steps": 1})
    with pytest.raises(PlanError, match=r"holds no run to resume.*leave --resume out"):
        train(plan, resume=True)
    assert not (tmp_path / "run").exists()
    train(plan)
    with pytest.raises(PlanError, match="finished: there is nothing to resume"):
        train(plan, resume=True)


def test_a_run_stopped_after_its_last_step_only_finishes(
    tmp_path: Path, tiny_model: TinyModel, uninterrupted: Path
) -> None:
    plan = make(tmp_path, tiny_model)
    interrupt(plan, 8)
    assert not (tmp_path / "run" / "result.json").exists()
    _, events = train(plan, resume=True)
    assert of_kind(events, StepDone) == []
    assert_same_run(tmp_path / "run", uninterrupted)


def evaluations_of(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    """Let the evaluations of the next runs find these losses, in turn."""
    coming = iter(losses)
    monkeypatch.setattr(
        "lora_cli.engine.loop.evaluate", lambda *_, **__: (next(coming), Measured({}))
    )


def test_a_run_stopped_when_out_of_patience_does_not_train_on(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = {"split": 0.25, "every_steps": 1, "patience": 2}
    plan = make(tmp_path, tiny_model, evaluation=evaluation)
    evaluations_of(monkeypatch, 1.0, 2.0, 3.0)
    interrupt(plan, 3)
    result, events = train(plan, resume=True)
    assert of_kind(events, StepDone) == []
    assert of_kind(events, StoppedEarly) == [StoppedEarly(3, 2)]
    assert (result.steps, result.best_step, result.best_evaluation_loss) == (3, 1, 1.0)


def test_the_best_adapter_survives_the_stop(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a worse evaluation has come, only the checkpoint still holds the best weights."""
    plan = make(tmp_path, tiny_model, evaluation={"split": 0.25, "every_steps": 2})
    evaluations_of(monkeypatch, 2.0, 3.0, 2.0, 2.5)
    interrupt(plan, 4)
    checkpoints = tmp_path / "run" / "checkpoints"
    best = load_file(checkpoints / "step-000004" / "best_adapter.safetensors")
    result, events = train(plan, resume=True)
    assert [event.best for event in of_kind(events, Evaluated)] == [False, False]
    assert result.best_step == 2, "the first of equals"
    final = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert equal(final, best)
    assert equal(final, load_file(checkpoints / "step-000002" / "adapter.safetensors"))
    assert not equal(final, load_file(checkpoints / "step-000008" / "adapter.safetensors"))


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
