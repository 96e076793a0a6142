"""What a quantized base held is what transformers and bitsandbytes make of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from lora_cli.errors import MergeError
from lora_cli.merge.held import held_weights, specification_of
from lora_cli.merge.weightless import load_config, weightless_model
from lora_cli.model.base import load_base
from lora_cli.model.layers import as_out_by_in, is_quantized, weight_of
from lora_cli.quantization.none import Unquantized
from tests.helpers.cells import METHODS, options
from tests.helpers.families import FAMILIES

QUANTIZED = [method for method in METHODS if method != "none"]


@pytest.mark.parametrize("kept", [(), ("down_proj", "layers.0", "wi", "c_fc", "query")])
@pytest.mark.parametrize("method", QUANTIZED)
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5"])
def test_every_weight_is_what_the_loaded_base_holds(
    tmp_path: Path, name: str, method: str, kept: tuple[str, ...]
) -> None:
    """T5 keeps `wo` as it is, GPT-2's weights are turned round, and heads stay what they were."""
    family = FAMILIES[name]
    base = family.write(tmp_path)
    quantization: Any = METHODS[method].model_copy(update={"full_precision_modules": kept})
    model = load_base(base, quantization, options(family)).model
    plain = getattr(transformers, family.auto_class).from_pretrained(base, dtype=torch.float32)
    weightless = weightless_model(load_config(base), family.auto_class)
    origin = {"quantization": quantization.model_dump(), "dtype": "float32"}
    held = held_weights(weightless, origin, "adapter")
    quantized = {
        each
        for each, module in model.named_modules()
        if isinstance(module, nn.Linear) and is_quantized(module)
    }
    assert quantized
    assert set(held.names) == {f"{each}.weight" for each in quantized}
    for each in quantized:
        module = plain.get_submodule(each)
        ours = as_out_by_in(module, held.of(f"{each}.weight", module.weight.data))
        assert ours.equal(weight_of(model.get_submodule(each)).float())


def test_it_is_quantized_from_the_type_that_the_base_was_loaded_in() -> None:
    config = FAMILIES["llama"].config()
    model = weightless_model(config, "AutoModelForCausalLM")
    origin = {"quantization": {"method": "nf4"}}
    name = "model.layers.0.mlp.up_proj.weight"
    weight = torch.randn(model.get_parameter(name).shape)
    plain = held_weights(model, origin, "")
    half = held_weights(model, {**origin, "dtype": "bfloat16"}, "")
    assert half.of(name, weight).equal(plain.of(name, weight.bfloat16()))
    assert not half.of(name, weight).equal(plain.of(name, weight))


def test_what_was_not_quantized_is_held_as_it_is() -> None:
    model = weightless_model(FAMILIES["llama"].config(), "AutoModelForCausalLM")
    weight = torch.randn(3, 4)
    for origin in ({}, {"quantization": None}, {"quantization": {"method": "none"}}):
        held = held_weights(model, origin, "")
        assert held.names == []
        assert held.of("model.layers.0.mlp.up_proj.weight", weight) is weight
    assert isinstance(specification_of({}, ""), Unquantized)


@pytest.mark.parametrize("quantization", [{"method": "int3"}, {"method": "nf4", "bits": 4}])
def test_a_quantization_that_is_not_known_is_an_error(quantization: dict[str, Any]) -> None:
    with pytest.raises(MergeError, match=r"adapter: names a quantization .* does not know"):
        specification_of(quantization, "adapter")
