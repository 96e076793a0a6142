"""metrics.jsonl: written as it happens, cut back to the checkpoint on resume."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lora_cli.engine.metrics import MetricsFile, measured_at, read_metrics
from lora_cli.errors import RunError
from lora_cli.events import Evaluated, RanksAllocated, Stage, StepDone
from lora_cli.tasks.task import Measured


def step(number: int, loss: float = 1.0) -> StepDone:
    return StepDone(number, 0.5, loss, 1e-4, 0.3, 40, 20, 0.1, 1000)


def evaluation(number: int) -> Evaluated:
    figures = {"perplexity": 4.48, "token_accuracy": 0.25}
    return Evaluated(number, 1.5, figures, best=True, seconds=0.1)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Three steps, and an evaluation after the second."""
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, keep_to_step=0)
    for event in (step(1), step(2), evaluation(2), Stage("nothing to measure"), step(3)):
        metrics.write(event)
    return path


def kinds(path: Path) -> list[tuple[str, int]]:
    return [(line["kind"], line["step"]) for line in read_metrics(path)]


def test_measurements_are_written_and_nothing_else(written: Path) -> None:
    assert kinds(written) == [("step", 1), ("step", 2), ("evaluation", 2), ("step", 3)]
    assert written.read_text("utf-8").endswith("\n")


def test_numbers_come_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path, keep_to_step=0).write(step(1, loss=0.1 + 0.2))
    assert read_metrics(path)[0]["loss"] == 0.1 + 0.2


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (0, []),
        (1, [("step", 1)]),
        (2, [("step", 1), ("step", 2), ("evaluation", 2)]),
        (9, [("step", 1), ("step", 2), ("evaluation", 2), ("step", 3)]),
    ],
)
def test_a_resumed_run_keeps_the_lines_up_to_its_checkpoint(
    written: Path, keep: int, left: list[tuple[str, int]]
) -> None:
    MetricsFile(written, keep_to_step=keep)
    assert kinds(written) == left


def test_a_half_written_last_line_is_left_out(written: Path) -> None:
    with written.open("a") as file:
        file.write('{"kind": "step", "step": 4, "lo')
    assert len(read_metrics(written)) == 4
    MetricsFile(written, keep_to_step=3).write(step(4))
    assert kinds(written)[-1] == ("step", 4)
    assert all(json.loads(line) for line in written.read_text("utf-8").splitlines())


@pytest.mark.parametrize("line", ["{", "[]", '{"kind": "step"}', "null", ""])
def test_a_line_that_is_no_measurement_is_not_passed_over(written: Path, line: str) -> None:
    text = written.read_text("utf-8")
    written.write_text(f"{line}\n{text}", "utf-8")
    with pytest.raises(RunError, match=r"metrics\.jsonl: line 1 is no measurement"):
        read_metrics(written)


def test_what_is_not_json_is_not_written(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", keep_to_step=0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        metrics.write(step(1, loss=math.nan))
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_no_file_holds_no_lines(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "absent") == []


def test_an_allocation_of_ranks_is_a_measurement(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, keep_to_step=0)
    metrics.write(RanksAllocated(0, 5, {"a": 3, "b": 2}))
    metrics.write(RanksAllocated(1, 3, {"a": 3, "b": 0}))
    lines = read_metrics(path)
    assert lines[0] == {"kind": "ranks", "step": 0, "total": 5, "by_module": {"a": 3, "b": 2}}
    MetricsFile(path, keep_to_step=0)
    assert read_metrics(path) == lines[:1]


def test_the_figures_of_an_evaluation_stand_beside_its_loss_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, keep_to_step=0)
    table = {"yes": {"f1": 0.5, "support": 3.0}}
    metrics.write(evaluation(2))
    metrics.write(Evaluated(4, 1.0, {"f1": 0.5}, best=True, seconds=0.1, per_class=table))
    first, second = read_metrics(path)
    assert (first["perplexity"], "per_class" in first, second["f1"]) == (4.48, False, 0.5)
    assert measured_at(path, 2) == Measured({"perplexity": 4.48, "token_accuracy": 0.25})
    assert measured_at(path, 4) == Measured({"f1": 0.5}, table)
    assert measured_at(path, 3) == Measured({})
