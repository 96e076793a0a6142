"""Every weight of a model is in its inventory, once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear

from lora_cli.facts.inventory import WeightFacts, inventory
from tests.helpers.architectures import model_of

SOME = ["llama", "gpt2", "t5", "mixtral", "jamba", "bert", "gemma3", "albert"]


def by_name(model: Any) -> dict[str, WeightFacts]:
    return {each.name: each for each in inventory(model)}


@pytest.mark.parametrize("name", SOME)
def test_all_parameters_are_there_with_their_shapes(name: str) -> None:
    model, _ = model_of(name)
    found = by_name(model)
    assert sum(each.parameters for each in found.values()) == model.num_parameters()
    for full_name, parameter in model.named_parameters():
        module, _, leaf = full_name.rpartition(".")
        facts = found.get(full_name) or found[module]
        if leaf == "weight" or full_name in found:
            assert facts.shape == tuple(parameter.shape)


def test_a_tied_head_is_there_and_costs_nothing() -> None:
    model, _ = model_of("gpt2")
    head = by_name(model)["lm_head"]
    assert (head.kind, head.parameters, head.tied_to) == ("Linear", 0, "transformer.wte")


def test_kinds() -> None:
    gpt2, jamba = by_name(model_of("gpt2")[0]), by_name(model_of("jamba")[0])
    assert gpt2["transformer.h.0.attn.c_attn"].kind == "Conv1D"
    assert gpt2["transformer.h.0.attn.c_attn"].shape == (32, 96)
    assert gpt2["transformer.h.0.attn.c_attn"].parameters == 32 * 96 + 96
    assert gpt2["transformer.h.0.ln_1.weight"].kind == "Vector"
    assert jamba["model.layers.0.mamba.conv1d"].kind == "Conv"
    assert jamba["model.layers.1.feed_forward.experts.gate_up_proj"].kind == "Parameter"
    assert jamba["model.embed_tokens"].kind == "Embedding"


@pytest.mark.parametrize("name", SOME)
def test_what_is_never_quantized_is_what_transformers_leaves(name: str) -> None:
    """Where no module is named to be left out; the head is `quantization`'s own to name."""
    model, _ = model_of(name)
    facts = by_name(model)
    expected = {each.name for each in facts.values() if not each.never_quantized}
    skipped = list(getattr(model, "_keep_in_fp32_modules", None) or ())
    config = BitsAndBytesConfig(load_in_4bit=True)
    replace_with_bnb_linear(model, skipped, config)
    replaced = {n for n, each in model.named_modules() if type(each).__name__ == "Linear4bit"}
    assert replaced == expected


def test_t5_keeps_the_end_of_its_feed_forward_blocks_in_float32() -> None:
    found = by_name(model_of("t5")[0])
    wo = found["encoder.block.0.layer.1.DenseReluDense.wo"]
    assert wo.never_quantized == "transformers keeps it in float32"


def test_a_bare_model_has_an_inventory_too() -> None:
    layer = torch.nn.Linear(3, 2, device="meta")
    (facts,) = inventory(layer)
    assert (facts.name, facts.kind, facts.shape, facts.parameters) == ("", "Linear", (2, 3), 8)
