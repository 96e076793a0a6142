"""Methods with a state of their own: stopped and resumed, the run is that which never stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_cli.engine.run import run
from lora_cli.errors import InterruptedRunError
from tests.helpers.runs import metrics_of, plan_of, stop_at, train, write_recipe

TinyModel = Callable[[str], Path]
ADAPTERS: dict[str, dict[str, Any]] = {
    "dora": {},
    "adalora": {"dropout": 0.1},
    "nora": {"outer_rank": 8, "dropout": 0.1},
}
FILES = (
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
    "checkpoints/step-000008/adapter.safetensors",
    "checkpoints/step-000008/best_adapter.safetensors",
    "checkpoints/step-000008/optimizer.pt",
    "loss.png",
)


def sections(variant: str) -> dict[str, Any]:
    return {
        "adapter": {"variant": variant, "rank": 3, **ADAPTERS[variant]},
        "training": {"steps": 8, "save_steps": 4, "learning_rate": 0.05},
        "evaluation": {"split": 0.25, "every_steps": 3},
    }


@pytest.mark.parametrize("method", ["none", "nf4"])
@pytest.mark.parametrize("variant", ADAPTERS)
def test_stop_and_resume_gives_the_uninterrupted_run(
    tmp_path: Path, tiny_model: TinyModel, variant: str, method: str
) -> None:
    """Step 2 is among AdaLoRA's allocations, 6 after the last of them."""
    folders = {}
    for step in (0, 2, 6):
        folder = folders[step] = tmp_path / str(step)
        folder.mkdir()
        recipe = write_recipe(folder, tiny_model("llama"), **sections(variant), quantization=method)
        plan = plan_of(recipe)
        if step:
            with pytest.raises(InterruptedRunError):
                run(plan, stop_at(step, signal.SIGINT))
        train(plan, resume=bool(step))
    for step in (2, 6):
        assert_same_run(folders[step] / "run", folders[0] / "run")


def assert_same_run(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    untimed = {"seconds": 0, "memory_bytes": 0}
    for kind in ("step", "evaluation", "ranks"):
        first, second = metrics_of(one, kind), metrics_of(other, kind)
        assert [line | untimed for line in first] == [line | untimed for line in second]
