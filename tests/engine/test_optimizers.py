"""Whole runs with each optimizer: they learn, a resumed one is bit for bit the whole one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lora_cli.engine import run as module
from lora_cli.errors import InterruptedRunError
from lora_cli.plan.run_plan import RunPlan
from lora_cli.step.update import Trainables
from tests.helpers.runs import PLAIN_PEFT, losses_of, metrics_of, plan_of, stop_at, train
from tests.helpers.runs import write_recipe as recipe

TinyModel = Callable[[str], Path]
FILES = ("adapter.safetensors", "optimizer.pt", "random.pt")
RANK_OF_8_BITS = 128
"""A is then 128 × 32 numbers: the smallest tensor whose state has 8 bits."""


def make(folder: Path, base: Path, optimizer: Any, **adapter: Any) -> RunPlan:
    folder.mkdir(exist_ok=True)
    training = {"optimizer": optimizer, "steps": 6, "save_steps": 2, "learning_rate": 0.005}
    return plan_of(recipe(folder, base, adapter={"dropout": 0.2, **adapter}, training=training))


@pytest.mark.parametrize(
    ("optimizer", "adapter"),
    [
        ("adamw_8bit", {"rank": RANK_OF_8_BITS}),
        ("paged_adamw", {}),
        ("paged_adamw_8bit", {"rank": RANK_OF_8_BITS}),
        ({"name": "adamw", "lora_plus_ratio": 4}, {}),
        ("lora_fa", {"variant": "pissa"}),
    ],
    ids=str,
)
def test_stop_and_resume_gives_the_uninterrupted_run(
    tmp_path: Path, tiny_model: TinyModel, optimizer: Any, adapter: dict[str, Any]
) -> None:
    base = tiny_model("llama")
    train(make(tmp_path / "whole", base, optimizer, **adapter))
    plan = make(tmp_path / "stopped", base, optimizer, **adapter)
    with pytest.raises(InterruptedRunError):
        module.run(plan, stop_at(3, signal.SIGINT))
    train(plan, resume=True)
    whole, resumed = (tmp_path / name / "run" for name in ("whole", "stopped"))
    for name in FILES:
        last = f"checkpoints/step-000006/{name}"
        assert (whole / last).read_bytes() == (resumed / last).read_bytes(), name
    assert losses_of(whole) == losses_of(resumed)
    assert losses_of(whole)[-1] < losses_of(whole)[0]


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_the_checkpoint_holds_8_bits(tmp_path: Path, tiny_model: TinyModel, name: str) -> None:
    train(make(tmp_path, tiny_model("llama"), name, rank=RANK_OF_8_BITS))
    file = tmp_path / "run/checkpoints/step-000006/optimizer.pt"
    states = torch.load(file, weights_only=True)["state"].values()
    kinds = {
        tensor.dtype
        for state in states
        for key, tensor in state["__bnb_optimizer_quant_state__"].items()
        if key == "state1"
    }
    assert torch.uint8 in kinds


def test_lora_plus_takes_larger_steps_of_b(tmp_path: Path, tiny_model: TinyModel) -> None:
    """Adam's first step is the learning rate for every number, whatever its gradient is."""
    training = {"steps": 1, "warmup_ratio": 0.0, "learning_rate": 0.001}
    plan = plan_of(
        recipe(
            tmp_path,
            tiny_model("llama"),
            training={**training, "optimizer": {"lora_plus_ratio": 8}},
        )
    )
    train(plan)
    saved = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    b = torch.cat([tensor.flatten() for name, tensor in saved.items() if "lora_B" in name])
    assert b.abs().median() == pytest.approx(0.008, rel=1e-3)
    assert metrics_of(tmp_path / "run")[0]["learning_rate"] == 0.001, "the rate of all else"


@PLAIN_PEFT
@pytest.mark.parametrize("variant", ["lora", "rslora", "pissa", "eva"])
def test_lora_fa_moves_b_alone_and_saves_what_it_trained(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    base = tiny_model("llama")
    plan = make(tmp_path, base, "lora_fa", variant=variant, dropout=0.0)
    built: list[Trainables] = []
    starts: list[dict[str, torch.Tensor]] = []
    build = module.build_trainables

    def note(*arguments: Any, **options: Any) -> Trainables:
        built.append(build(*arguments, **options))
        starts.append(built[0].adapter.state())
        return built[0]

    monkeypatch.setattr(module, "build_trainables", note)
    train(plan)
    start, last = starts[0], built[0].adapter.state()
    moved = {name for name in start if not start[name].equal(last[name])}
    assert moved == {name for name in start if ".lora_B." in name}
    assert sum(start[name].numel() for name in moved) == plan.adapter.trainable_parameters
    loaded = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), tmp_path / "run/adapter"
    )
    ids = torch.arange(40, 60)[None]
    with torch.no_grad():
        ours, theirs = (model.eval()(input_ids=ids).logits for model in (built[0].model, loaded))
    # float32: the residual of pissa's base is rounded once more than the original weight
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)
