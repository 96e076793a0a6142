"""When the loop evaluates, saves and stops; and that what it keeps as best is the best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lora_cli.engine.evaluate import evaluate
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.engine.runtime import Runtime
from lora_cli.events import CheckpointSaved, Evaluated, StepDone, StoppedEarly
from lora_cli.tasks.task import Measured
from tests.engine.conftest import Finished
from tests.helpers.runs import PLAIN_PEFT, of_kind, plan_of, train, write_recipe

TinyModel = Callable[[str], Path]


def run_with(folder: Path, base: Path, /, **sections: Any) -> tuple[Any, list[Any]]:
    return train(plan_of(write_recipe(folder, base, **sections)))


def steps_of(events: list[Any], kind: type[Any]) -> list[int]:
    return [event.step for event in of_kind(events, kind)]


@pytest.mark.parametrize(
    ("steps", "save", "every", "saved", "evaluated"),
    [
        (5, 2, 2, [2, 4, 5], [2, 4, 5]),
        (4, 2, 4, [2, 4], [4]),
        (3, 9, 1, [3], [1, 2, 3]),
        (1, 1, 9, [1], [1]),
    ],
)
def test_saves_and_evaluations_come_on_time_and_at_the_end(
    tmp_path: Path,
    tiny_model: TinyModel,
    steps: int,
    save: int,
    every: int,
    saved: list[int],
    evaluated: list[int],
) -> None:
    _, events = run_with(
        tmp_path,
        tiny_model("llama"),
        training={"steps": steps, "save_steps": save},
        evaluation={"split": 0.2, "every_steps": every},
    )
    assert steps_of(events, StepDone) == list(range(1, steps + 1))
    assert steps_of(events, CheckpointSaved) == saved
    assert steps_of(events, Evaluated) == evaluated


def test_without_evaluation_the_last_weights_are_the_result(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    result, events = run_with(tmp_path, tiny_model("llama"))
    assert (result.best_step, result.best_evaluation_loss) == (None, None)
    assert of_kind(events, Evaluated) == []
    last = tmp_path / "run" / "checkpoints" / "step-000004" / "adapter.safetensors"
    final = tmp_path / "run" / "adapter" / "adapter_model.safetensors"
    assert tensors(final).keys() == tensors(last).keys()
    assert all(tensors(final)[name].equal(tensor) for name, tensor in tensors(last).items())


def tensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(file)


@pytest.mark.parametrize(
    ("losses", "patience", "last", "best"),
    [
        ([3.0, 2.0, 2.0, 2.5, 1.0], 2, 4, 2),
        ([3.0, 3.5, 2.0, 2.5, 2.5], 2, 5, 3),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 3, 4, 1),
        ([1.0, 2.0, 0.5, 0.4, 0.3], 1, 2, 1),
    ],
)
def test_training_stops_when_patience_is_out(
    tmp_path: Path,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    losses: list[float],
    patience: int,
    last: int,
    best: int,
) -> None:
    coming = iter(losses)
    monkeypatch.setattr(
        "lora_cli.engine.loop.evaluate", lambda *_, **__: (next(coming), Measured({}))
    )
    result, events = run_with(
        tmp_path,
        tiny_model("llama"),
        training={"steps": 5},
        evaluation={"split": 0.2, "every_steps": 1, "patience": patience},
    )
    assert (result.steps, result.best_step) == (last, best)
    assert steps_of(events, CheckpointSaved) == [last]
    early = [StoppedEarly(last, patience)] if last < 5 else []
    assert of_kind(events, StoppedEarly) == early
    kept = tensors(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    saved = tensors(
        tmp_path / "run" / "checkpoints" / f"step-{last:06d}" / "best_adapter.safetensors"
    )
    assert all(kept[name].equal(saved[name]) for name in kept)


@PLAIN_PEFT
def test_the_adapter_has_the_loss_of_the_best_evaluation(finished: Finished) -> None:
    """Loaded by plain peft from the run directory, on the rows that were kept apart."""
    plan = finished.plan
    base = AutoModelForCausalLM.from_pretrained(plan.model.folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, finished.adapter)
    rows = planned_dataset(plan, planned_tokenizer(plan)).evaluation
    runtime = Runtime(device="cpu", processes=1)
    loss, _ = evaluate(plan.task, model, rows, runtime, batch_size=16, padding_id=0)
    evaluations = of_kind(finished.events, Evaluated)
    assert loss == pytest.approx(finished.result.best_evaluation_loss, abs=1e-6)
    assert loss == pytest.approx(min(event.loss for event in evaluations), abs=1e-6)
    assert len({event.loss for event in evaluations}) > 1


def test_steps_tell_their_tokens_epochs_and_rates(finished: Finished) -> None:
    steps = of_kind(finished.events, StepDone)
    rows = planned_dataset(finished.plan, planned_tokenizer(finished.plan)).train
    first_epoch = [event for event in steps if event.epoch <= 1]
    assert len(first_epoch) == finished.plan.schedule.steps_per_epoch == 5
    assert sum(event.tokens for event in first_epoch) == finished.plan.data.train.total
    assert sum(event.supervised_tokens for event in first_epoch) == sum(
        row.tokens.supervised for row in rows
    )
    assert first_epoch[-1].epoch == 1.0
    assert all(event.seconds > 0 and event.memory_bytes > 10**7 for event in steps)


def test_training_goes_on_with_dropout_after_an_evaluation(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    """An evaluation that left the model in evaluation mode would change the steps after it."""
    losses = []
    for name, evaluation in (("never", 9), ("often", 1)):
        (tmp_path / name).mkdir()
        _, events = run_with(
            tmp_path / name,
            tiny_model("llama"),
            adapter={"dropout": 0.4},
            evaluation={"split": 0.2, "every_steps": evaluation},
        )
        losses.append([event.loss for event in of_kind(events, StepDone)])
    assert losses[0] == losses[1]
