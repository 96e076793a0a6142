"""Whole runs with what trains beside an adapter, or on other things than linear layers."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lora_cli.engine.run import run
from lora_cli.errors import InterruptedRunError
from tests.helpers.adapters import logits
from tests.helpers.runs import PLAIN_PEFT, losses_of, plan_of, stop_at, train, write_recipe

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
BFLOAT16 = {"dtype": "bfloat16"}
ENDS: dict[str, Any] = {"modules_to_save": ["embed_tokens"], "target_modules": "attention"}
RUNS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("tied_llama", BFLOAT16, ENDS),
    ("tied_llama", BFLOAT16, {"trainable_tokens": ["<|im_start|>", "a"]}),
    ("llama", {}, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    ("llama", {}, {"variant": "pissa", "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v.*": 3}}),
    ("mixtral", {}, {"variant": "rslora", "target_parameters": "experts", "layers": [1]}),
    ("qwen3_moe", BFLOAT16, {"target_parameters": ["experts.down_proj", "gate.weight"]}),
]


@pytest.mark.parametrize(("architecture", "model", "adapter"), RUNS, ids=str)
def test_a_run_trains_what_was_planned_and_plain_peft_loads_it(
    tmp_path: Path,
    tiny_model: TinyModel,
    architecture: str,
    model: dict[str, str],
    adapter: dict[str, Any],
) -> None:
    base = tiny_model(architecture)
    steps = {"steps": 10, "learning_rate": 0.02}
    plan = plan_of(write_recipe(tmp_path, base, model=model, adapter=adapter, training=steps))
    train(plan)  # which counts what is trained against the plan
    losses = losses_of(tmp_path / "run")
    assert losses[-1] < losses[0] - 0.02
    dtype = getattr(torch, plan.model.dtype)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    before = logits(plain)
    after = logits(PeftModel.from_pretrained(plain, tmp_path / "run/adapter"))
    assert (after - before).abs().max() > 0.02
    config = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text("utf-8"))
    assert (config["layers_to_transform"], config["exclude_modules"]) == (None, None)


@pytest.mark.parametrize(
    ("architecture", "adapter"),
    [
        ("tied_llama", ENDS),
        ("mixtral", {"target_parameters": "experts"}),
        ("llama", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    ],
    ids=str,
)
def test_a_base_in_four_bits(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, adapter: dict[str, Any]
) -> None:
    """Embedding, head and fused experts are what bitsandbytes leaves in full precision."""
    sections: dict[str, Any] = {"model": BFLOAT16, "adapter": adapter, "quantization": "nf4"}
    steps = {"steps": 10, "learning_rate": 0.02}
    train(plan_of(write_recipe(tmp_path, tiny_model(architecture), training=steps, **sections)))
    losses = losses_of(tmp_path / "run")
    assert losses[-1] < losses[0] - 0.02


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, tiny_model: TinyModel) -> None:
    """The float32 copies come back as they were, and not as the base's precision has them."""
    adapters = []
    for name in ("whole", "resumed"):
        folder = tmp_path / name
        folder.mkdir()
        recipe = write_recipe(folder, tiny_model("tied_llama"), model=BFLOAT16, adapter=ENDS)
        plan = plan_of(recipe)
        if name == "resumed":
            with pytest.raises(InterruptedRunError):
                run(plan, stop_at(2, signal.SIGINT))
        train(plan, resume=name == "resumed")
        adapters.append(load_file(folder / "run/adapter/adapter_model.safetensors"))
    whole, resumed = adapters
    assert whole.keys() == resumed.keys()
    assert all(whole[key].equal(resumed[key]) for key in whole)
    assert whole["base_model.model.lm_head.weight"].dtype == torch.float32


def test_the_configuration_is_the_same_text_twice(tmp_path: Path, tiny_model: TinyModel) -> None:
    """peft keeps names in sets, which have no order to repeat."""
    adapter = {"target_parameters": "experts", "modules_to_save": ["norm", "lm_head"]}
    recipe = write_recipe(tmp_path, tiny_model("mixtral"), adapter=adapter, training={"steps": 1})
    train(plan_of(recipe))
    config = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text("utf-8"))
    for field in ("target_modules", "target_parameters"):
        assert config[field] == sorted(config[field])
    assert config["modules_to_save"] == ["model.norm", "lm_head"]
