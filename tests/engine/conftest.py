"""A finished run that many tests look at, made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lora_cli.engine.artifacts import RunResult
from lora_cli.events import Event
from lora_cli.plan.run_plan import RunPlan
from tests.helpers.caches import own_cache
from tests.helpers.runs import plan_of, train, write_recipe

__all__ = ["own_cache"]

EVERYTHING: dict[str, Any] = {
    "adapter": {"dropout": 0.1},
    "training": {"steps": 6, "save_steps": 2, "keep_checkpoints": 2, "learning_rate": 0.02},
    "evaluation": {
        "split": 0.25,
        "every_steps": 3,
        "answers": {"metric": "exact_match", "max_new_tokens": 6, "batch_size": 4},
    },
}
"""A recipe that uses every part of the engine."""


@dataclass(frozen=True)
class Finished:
    """A run that came to its end."""

    plan: RunPlan
    result: RunResult
    events: list[Event]

    @property
    def folder(self) -> Path:
        return Path(self.plan.run_dir)

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]
) -> Finished:
    """A run of EVERYTHING on a tiny llama; look, do not touch."""
    folder = tmp_path_factory.mktemp("finished")
    plan = plan_of(write_recipe(folder, tiny_model("llama"), **EVERYTHING))
    return Finished(plan, *train(plan))
