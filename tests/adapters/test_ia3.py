"""(IA)³: its parameters, its equation, and which modules have their inputs scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.adapters.ia3 import Ia3
from lora_cli.adapters.variant import Setting
from lora_cli.facts.linear_layers import LinearFacts
from tests.helpers.linear_layers import SHAPES, adapted, counted, trained_by_peft
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.variants import Base

TinyModel = Callable[[str], Path]
LLAMA = [
    f"model.layers.{layer}.{name}"
    for layer in (0, 1)
    for name in ("self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
]
GPT2 = [
    f"transformer.h.{layer}.{name}"
    for layer in (0, 1)
    for name in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj")
]


def of_block(names: list[str], *ends: str) -> Setting:
    """Return a setting of modules of 4 × 8 (in × out), those named like `ends` of 8 × 4."""
    modules = [LinearFacts(name, *((8, 4) if name.endswith(ends) else (4, 8))) for name in names]
    last = [name for name in names if name.endswith(ends)]
    return replace(setting(), modules=modules, feed_forward_ends=last)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("ends", [(), ("m0",), ("m0", "m2")])
def test_peft_trains_as_many_numbers(shapes: Any, ends: tuple[str, ...]) -> None:
    spec = Ia3(feedforward_modules=ends)
    assert trained_by_peft(spec, *shapes) == counted(spec, *shapes)


def test_outputs_are_scaled_or_inputs() -> None:
    model, _ = adapted(Ia3(feedforward_modules=("m1",)), (6, 4), (6, 4))
    inputs = torch.randn(5, 6)
    for name in ("m0", "m1"):
        layer = model.base_model.model.get_submodule(name)
        torch.testing.assert_close(layer(inputs), layer.base_layer(inputs), rtol=0, atol=0)
        torch.nn.init.normal_(layer.ia3_l["default"])
    outputs, ends = model.base_model.model.m0, model.base_model.model.m1
    scaled = outputs.base_layer(inputs) * outputs.ia3_l["default"].flatten()
    torch.testing.assert_close(outputs(inputs), scaled)
    scaled = ends.base_layer(inputs * ends.ia3_l["default"].flatten())
    torch.testing.assert_close(ends(inputs), scaled)


@pytest.mark.parametrize(
    ("block", "short"),
    [
        (of_block(LLAMA, "down_proj"), ("down_proj",)),
        (of_block(GPT2, "mlp.c_proj"), ("mlp.c_proj",)),
        (of_block(LLAMA, "0.mlp.down_proj"), ("0.mlp.down_proj",)),
        (of_block(LLAMA, "nothing"), ()),
        (of_block(["down_proj", "up_proj"], "down_proj"), ("down_proj",)),
    ],
)
def test_left_out_they_are_the_ends_of_the_feed_forward_blocks(
    block: Setting, short: tuple[str, ...]
) -> None:
    spec = Ia3().settled(block)
    assert spec.feedforward_modules == short
    assert spec.trainable_parameters(block) == 8 * len(block.modules), "the longer side of each"
    assert not list(spec.problems(block))


def test_given_they_are_as_they_were_written() -> None:
    block = of_block(LLAMA, "down_proj")
    spec = Ia3(feedforward_modules=("up_proj",)).settled(block)
    assert spec.feedforward_modules == ("up_proj",)
    assert spec.trainable_parameters(block) == 2 * (8 + 4 + 4)


def test_a_name_of_no_adapted_module_is_a_problem() -> None:
    block = of_block(LLAMA, "down_proj")
    (problem,) = Ia3(feedforward_modules=("down_proj", "proj")).problems(block)
    assert problem.field == "feedforward_modules"
    assert problem.message == "`proj` is none of the adapted modules"


@PLAIN_PEFT
@pytest.mark.parametrize(("architecture", "ends"), [("llama", "down_proj"), ("gpt2", "mlp.c_proj")])
def test_peft_scales_the_inputs_of_those_and_no_others(
    tiny_model: TinyModel, architecture: str, ends: str
) -> None:
    spec = Ia3(feedforward_modules=(ends,))
    model = Base(tiny_model(architecture), architecture).adapted(spec).model
    scaled = {
        name.removeprefix("base_model.model.")
        for name, module in model.named_modules()
        if getattr(module, "is_feedforward", False)
    }
    every = Base(tiny_model(architecture), architecture).modules()
    assert scaled == {name for name in every if name.endswith(f".{ends}")}
    assert len(scaled) == 2
