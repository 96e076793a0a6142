"""A computed start is computed once: a resumed run goes on from the base that it made."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from lora_cli.engine.run import run
from lora_cli.errors import InterruptedRunError, RunError
from lora_cli.events import Event, Stage, StartsDone
from lora_cli.plan.run_plan import RunPlan
from tests.helpers.runs import metrics_of, of_kind, plan_of, stop_at, train, write_recipe

TinyModel = Callable[[str], Path]
CASES: dict[str, dict[str, Any]] = {
    "pissa": {"adapter": {"variant": "pissa", "svd": "fast", "dropout": 0.2}},
    "pissa on nf4": {"adapter": {"variant": "pissa"}, "quantization": "nf4"},
    "loftq on int8": {"adapter": {"variant": "loftq", "iterations": 2}, "quantization": "int8"},
    "eva": {"adapter": {"variant": "eva", "calibration_rows": 6, "dropout": 0.2}},
    "eva on fp4": {"adapter": {"variant": "eva"}, "quantization": "fp4"},
    "lora_ga": {"adapter": {"variant": "lora_ga"}},
    "corda": {"adapter": {"variant": "corda"}},
}
START = Path("checkpoints/start")


def make(folder: Path, base: Path, case: str) -> RunPlan:
    folder.mkdir()
    training = {"steps": 6, "save_steps": 2, "learning_rate": 0.01}
    evaluation = {"split": 0.25, "every_steps": 3}
    recipe = write_recipe(folder, base, training=training, evaluation=evaluation, **CASES[case])
    return plan_of(recipe)


def interrupt(plan: RunPlan, step: int) -> None:
    with pytest.raises(InterruptedRunError):
        run(plan, stop_at(step, signal.SIGINT))


def files_of(run_dir: Path, *folders: str) -> dict[str, bytes]:
    """Return the bytes of all files in these folders, but for those that say where and how long."""
    paths = [path for name in folders for path in (run_dir / name).rglob("*") if path.is_file()]
    untold = ("loracli.json", "adapter_config.json", "state.json", "manifest.json")
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in paths
        if path.name not in untold
    }


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(
    tmp_path: Path, tiny_model: TinyModel, case: str
) -> None:
    whole = make(tmp_path / "whole", tiny_model("llama"), case)
    train(whole)
    stopped = make(tmp_path / "stopped", tiny_model("llama"), case)
    assert stopped.digest == whole.digest
    interrupt(stopped, 3)
    _, events = train(stopped, resume=True)
    assert of_kind(events, StartsDone) == [], "it is not computed again"
    one, other = tmp_path / "whole/run", tmp_path / "stopped/run"
    folders = ("adapter", "base", "checkpoints/step-000006", "checkpoints/start")
    assert files_of(other, *folders) == files_of(one, *folders)
    assert ("on nf4" in case or "on int8" in case) is (one / "base").is_dir()
    untimed = {"seconds": 0, "memory_bytes": 0}
    for kind in ("step", "evaluation"):
        lines = [[line | untimed for line in metrics_of(each, kind)] for each in (one, other)]
        assert lines[0] == lines[1]


def test_what_is_computed_is_told_and_kept(tmp_path: Path, tiny_model: TinyModel) -> None:
    plan = make(tmp_path / "run", tiny_model("llama"), "eva")
    _, events = train(plan)
    total = len(plan.adapter.modules)
    done = of_kind(events, StartsDone)
    assert done == [StartsDone(count, total) for count in range(1, total + 1)]
    assert Stage("computing the adapter's start") in of_kind(events, Stage)
    kept = load_file(Path(plan.run_dir) / START / "start.safetensors")
    assert kept.keys() == {f"{name}.first.{side}" for name in plan.adapter.modules for side in "ab"}


def test_a_run_that_starts_from_the_seed_keeps_nothing(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    plan = plan_of(write_recipe(tmp_path, tiny_model("llama"), training={"steps": 1}))
    _, events = train(plan)
    assert of_kind(events, StartsDone) == []
    assert not (Path(plan.run_dir) / START).exists()


@pytest.mark.parametrize("damage", ["changed", "missing", "no manifest"])
def test_a_damaged_start_ends_the_run_before_it_trains(
    tmp_path: Path, tiny_model: TinyModel, damage: str
) -> None:
    """Another base would be made from it, and the checkpoint's adapter is not for that one."""
    plan = make(tmp_path / "stopped", tiny_model("llama"), "pissa")
    interrupt(plan, 2)
    folder = Path(plan.run_dir) / START
    file = folder / "start.safetensors"
    content = file.read_bytes()
    if damage == "changed":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        file.unlink()
    else:
        (folder / "manifest.json").unlink()
    heard: list[Event] = []
    with pytest.raises(RunError, match=r"the adapter's start is damaged.*--overwrite"):
        run(plan, heard.append, resume=True)
    assert not (Path(plan.run_dir) / "adapter").exists()


def test_beginning_again_computes_it_again(tmp_path: Path, tiny_model: TinyModel) -> None:
    plan = make(tmp_path / "stopped", tiny_model("llama"), "pissa on nf4")
    train(plan)
    before = files_of(Path(plan.run_dir), "adapter", "base")
    (Path(plan.run_dir) / "base" / "config.json").write_text(json.dumps({}))
    _, events = train(plan, overwrite=True)
    assert len(of_kind(events, StartsDone)) == len(plan.adapter.modules)
    assert files_of(Path(plan.run_dir), "adapter", "base") == before
