"""Events as lines and as a live panel."""

from __future__ import annotations

import io
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from lora_cli.console.train import PLAIN_LINES, TrainingView, show_prediction, show_result
from lora_cli.engine.artifacts import RunResult
from lora_cli.events import (
    AnswersDone,
    CheckpointSaved,
    Evaluated,
    Resumed,
    RunStarted,
    Stage,
    StartsDone,
    StepDone,
    StoppedEarly,
)
from lora_cli.memory.batch_shape import BatchShape
from lora_cli.memory.beside import Comparison


def step(number: int) -> StepDone:
    return StepDone(
        step=number,
        epoch=number / 10,
        loss=2.5 / number,
        learning_rate=2e-4,
        gradient_norm=0.5,
        tokens=1000,
        supervised_tokens=200,
        seconds=2.0,
        memory_bytes=3_000_000_000,
    )


FIGURES = {"perplexity": 1.65, "token_accuracy": 0.9}
EVALUATED = Evaluated(step=2, loss=0.5, figures=FIGURES, best=True, seconds=1.0)


def plain(*events: object) -> str:
    text = io.StringIO()
    with TrainingView(Console(file=text, highlight=False)) as view:
        for event in events:
            view(event)
    return text.getvalue()


def test_a_step_is_one_plain_line_with_all_its_figures() -> None:
    line = plain(RunStarted(4, 1), step(1)).strip()
    assert line == (
        "step 1/4  loss 2.5000  lr 2.00e-04  grad 0.500  500 tokens/s  3.0 GB  0:06 left"
    )


def test_a_long_run_prints_a_bounded_number_of_plain_lines() -> None:
    output = plain(RunStarted(5000, 1), *(step(number) for number in range(1, 5001)))
    assert PLAIN_LINES <= output.count("step ") <= PLAIN_LINES + 2
    assert "step 1/5000" in output
    assert "step 5000/5000" in output


def test_a_resumed_run_says_where_it_goes_on() -> None:
    told = plain(Resumed(10, "runs/x/checkpoints/step-000010"))
    assert told == "going on from checkpoint step-000010\n"


def test_every_other_event_is_told() -> None:
    output = plain(
        Stage("loading the base model"),
        EVALUATED,
        CheckpointSaved(2, "runs/x/checkpoints/step-000002"),
        StoppedEarly(9, 3),
        AnswersDone("base", 40, 80),
        AnswersDone("base", 80, 80),
    )
    assert "loading the base model" in output
    assert (
        "evaluation at step 2: loss 0.5000, perplexity 1.650, token accuracy 90.0%  best" in output
    )
    assert "checkpoint runs/x/checkpoints/step-000002" in output
    assert "stopped early at step 9" in output
    assert output.count("base: ") == 1


def test_a_start_is_one_plain_line_when_it_is_done() -> None:
    output = plain(*(StartsDone(done, 3) for done in (1, 2, 3)))
    assert output == "the adapter's start: 3 modules\n"


def test_a_start_grows_on_a_terminal_and_leaves_one_line() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80, highlight=False)
    with TrainingView(console) as view:
        view(StartsDone(1, 2))
        view._live.refresh()
        growing = text.getvalue()
        view(StartsDone(2, 2))
        view._live.refresh()
        done = text.getvalue().removeprefix(growing)
    assert "module 1/2" in growing
    assert "━" in growing
    assert "the adapter's start: 2 modules" in done
    assert "module 2/2" not in done


def test_a_terminal_shows_one_panel_that_is_gone_at_the_end() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, highlight=False)
    with TrainingView(console) as view:
        view(RunStarted(3, 1))
        view(EVALUATED)
        for number in (1, 2, 3):
            view(step(number))
        panel = view._panel(step(3))
    console.width = 80
    with console.capture() as capture:
        console.print(panel)
    assert capture.get().index("\n") < capture.get().index("step 3/3")
    figures = " ".join(capture.get().split())
    for figure in ("loss 0.8333", "lr 2.00e-04", "grad 0.500", "500 tokens/s", "3.0 GB", "left"):
        assert figure in figures
    assert "evaluation loss 0.5000 at step 2" in capture.get()


def test_the_result_compares_base_and_adapter() -> None:
    result = RunResult(
        run_dir="runs/x",
        adapter="runs/x/adapter",
        digest="d" * 64,
        steps=10,
        final_loss=0.25,
        tokens=5000,
        seconds=10.0,
        peak_memory_bytes=2_000_000_000,
        best_step=8,
        best_evaluation_loss=0.3,
        scores={"base": {"valid_json": 0.1}, "adapter": {"valid_json": 0.9875}},
    )
    text = io.StringIO()
    show_result(result, Console(file=text, highlight=False, width=100))
    output = text.getvalue()
    assert "valid json" in output
    assert "10.0%" in output
    assert "98.8%" in output
    assert "500 tokens/s" in output
    assert "the adapter is that of step 8" in output


@pytest.mark.parametrize(
    ("device", "predicted", "expected"),
    [
        ("cpu", 1_200_000_000, "memory    1.2 GB predicted at once for the model and its steps, "),
        ("cpu", 1_200_000_000, "steps, and up to 800 MB given back that the process keeps; "),
        ("cpu", 1_200_000_000, "the process grew by 1.3 GB from the 700 MB it took before"),
        ("cuda", 1_200_000_000, "the model and its steps; 1.3 GB allocated on the GPU"),
        ("cpu", None, "memory    not predicted: no such kernel; the process grew by 1.3 GB"),
    ],
)
def test_the_predicted_peak_stands_beside_the_measured_one(
    device: str, predicted: int | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(plan: Any, **measured: Any) -> Comparison:
        assert measured["largest"] == BatchShape(4, 100, documents=[60, 40])
        kept = 800_000_000 if device == "cpu" else 0
        return Comparison(1_300_000_000, predicted, kept, "no such kernel")

    monkeypatch.setattr("lora_cli.memory.beside.compare_peaks", compare)
    result: Any = SimpleNamespace(
        peak_memory_bytes=2_000_000_000,
        memory_before_bytes=700_000_000,
        largest_batch=asdict(BatchShape(4, 100, documents=[60, 40])),
    )
    text = io.StringIO()
    plan: Any = SimpleNamespace(device=SimpleNamespace(type=device))
    show_prediction(plan, result, Console(file=text, highlight=False, width=200))
    assert expected in text.getvalue()
