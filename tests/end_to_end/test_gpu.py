"""What needs a CUDA device: `pytest -m gpu`. Not part of the default run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.engine.run import run
from lora_cli.plan.make import make_plan
from lora_cli.recipe.load import load_recipe

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_a_run_on_the_gpu_learns(
    recipe_file: Callable[..., Path], dtype: str, quantization: str
) -> None:
    path = recipe_file(quantization=quantization)
    plan = make_plan(load_recipe(path, [f"model.dtype={dtype}", "training.steps=20"]))
    assert plan.device.type == "cuda"
    run(plan, lambda _event: None)
    lines = (Path(plan.run_dir) / "metrics.jsonl").read_text("utf-8").splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < losses[0]
