"""Recipes on tiny models, trained in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lora_cli.engine.artifacts import RunResult
from lora_cli.engine.run import run
from lora_cli.events import Event
from lora_cli.plan.make import make_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import load_recipe
from tests.helpers.tiny_models import sum_rows, write_rows

torch.set_num_threads(1)  # two-layer models only wait for each other's threads

PLAIN_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
"""For tests that use peft as its users do: peft reads a name that transformers has deprecated."""


def write_recipe(folder: Path, base: Path, /, **sections: Any) -> Path:
    """Write a recipe and 24 rows into `folder`; sections are merged into small defaults."""
    write_rows(folder / "rows.jsonl", sum_rows(24))
    recipe: dict[str, Any] = {
        "model": {"name": str(base), "dtype": "float32"},
        "adapter": {"variant": "lora", "rank": 4, "dropout": 0.0},
        "dataset": "rows.jsonl",
        "training": {"batch_size": 4, "steps": 4, "learning_rate": 0.01},
        "output": {"dir": str(folder / "run")},
    }
    for name, section in sections.items():
        both = isinstance(section, dict) and isinstance(recipe.get(name), dict)
        recipe[name] = {**recipe[name], **section} if both else section
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    return path


def plan_of(recipe: Path, *overrides: str) -> RunPlan:
    """Return the plan of a recipe file."""
    return make_plan(load_recipe(recipe, overrides))


def train(plan: RunPlan, **options: bool) -> tuple[RunResult, list[Event]]:
    """Carry out a plan; return its result and everything it told."""
    events: list[Event] = []
    return run(plan, events.append, **options), events


def of_kind(events: list[Event], kind: type[Any]) -> list[Any]:
    """Return the events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def metrics_of(run_dir: str | Path, kind: str = "step") -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl of one kind."""
    lines = (Path(run_dir) / "metrics.jsonl").read_text("utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def losses_of(run_dir: str | Path) -> list[float]:
    """Return the training losses of a run."""
    return [line["loss"] for line in metrics_of(run_dir)]


def stop_at(step: int, signal_number: int) -> Callable[[Event], None]:
    """Return a listener that sends this process a signal once `step` is done."""
    import signal

    from lora_cli.events import StepDone

    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == step:
            signal.raise_signal(signal_number)

    return listen
