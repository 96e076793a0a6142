"""Whole runs whose pairs are held in bfloat16, on a base in bfloat16."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lora_cli.engine.run import run
from lora_cli.errors import InterruptedRunError
from tests.helpers.merges import merge_into
from tests.helpers.runs import PLAIN_PEFT, losses_of, plan_of, stop_at, train, write_recipe

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
BFLOAT16 = {"dtype": "bfloat16"}


def recipe_of(folder: Path, base: Path, training: dict[str, Any], **adapter: Any) -> Path:
    sections: dict[str, Any] = {"model": BFLOAT16, "training": {"learning_rate": 0.02, **training}}
    folder.mkdir(exist_ok=True)
    return write_recipe(folder, base, adapter={**BFLOAT16, **adapter}, **sections)


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "run/adapter/adapter_model.safetensors")


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "lora_fa"])
def test_other_optimizers_train_them(tmp_path: Path, tiny_model: TinyModel, optimizer: str) -> None:
    training = {"optimizer": optimizer, "steps": 8}
    train(plan_of(recipe_of(tmp_path, tiny_model("llama"), training)))
    losses = losses_of(tmp_path / "run")
    assert losses[-1] < losses[0] - 0.1
    assert {each.dtype for each in tensors_of(tmp_path).values()} == {torch.bfloat16}


def test_what_trains_beside_them_is_in_float32_and_all_of_it_is_merged(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    beside = {"modules_to_save": ["norm"], "trainable_tokens": ["a"]}
    # clipped: the norm is one of gradients in two dtypes
    training = {"max_gradient_norm": 0.01, "steps": 8}
    train(plan_of(recipe_of(tmp_path, tiny_model("llama"), training, **beside)))
    dtypes = {
        ".lora_" in name: each.dtype
        for name, each in sorted(tensors_of(tmp_path).items(), key=lambda item: ".lora_" in item[0])
    }
    assert dtypes == {True: torch.bfloat16, False: torch.float32}
    proof = merge_into(tmp_path / "merged", tmp_path / "run/adapter", verify=True).proof
    assert proof is not None
    assert proof.holds
    assert proof.relative_difference < proof.tolerance / 2 < proof.effect


@pytest.mark.parametrize("variant", ["adalora", "pissa"])
def test_a_resumed_run_is_the_uninterrupted_one(
    tmp_path: Path, tiny_model: TinyModel, variant: str
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    plans = [
        plan_of(recipe_of(each, tiny_model("llama"), {"steps": 5}, variant=variant))
        for each in (whole, resumed)
    ]
    train(plans[0])
    with pytest.raises(InterruptedRunError):
        run(plans[1], stop_at(3, signal.SIGINT))
    train(plans[1], resume=True)
    one, other = tensors_of(whole), tensors_of(resumed)
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    assert losses_of(whole / "run") == losses_of(resumed / "run")
