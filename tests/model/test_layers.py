"""A layer's weight as (out, in) in float32, however it is held."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lora_cli.model.base import BaseOptions, load_base
from lora_cli.model.layers import as_out_by_in, is_quantized, weight_of
from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from tests.helpers.families import FAMILIES, batch

METHODS: dict[str, Any] = {
    "nf4": FourBit(method="nf4"),
    "fp4": FourBit(method="fp4", double_quantization=False),
    "int8": EightBit(method="int8"),
}


def options(dtype: str = "float32") -> BaseOptions:
    return BaseOptions(
        dtype=dtype,
        attention="eager",
        device="cpu",
        trust_remote_code=False,
        allow_pickle=False,
    )


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A family and the folder of its model."""
    chosen = FAMILIES[request.param]
    return chosen, chosen.write(tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_kinds_of_layers_give_out_by_in_in_float32(dtype: torch.dtype) -> None:
    linear, conv1d = nn.Linear(3, 5).to(dtype), Conv1D(5, 3).to(dtype)
    for layer in (linear, conv1d):
        assert weight_of(layer).shape == weight_of(layer, on_meta=True).shape == (5, 3)
        assert weight_of(layer).dtype == torch.float32
        assert as_out_by_in(layer, weight_of(layer)).to(dtype).equal(layer.weight)
        assert not is_quantized(layer)
    inputs = torch.ones(1, 3)
    nn.init.zeros_(conv1d.bias)
    torch.testing.assert_close(
        inputs @ weight_of(conv1d).T, conv1d(inputs.to(dtype)).float(), atol=1e-2, rtol=0
    )


def test_it_is_a_copy() -> None:
    for layer in (nn.Linear(3, 5), Conv1D(5, 3)):
        before = layer.weight.clone()
        weight_of(layer).zero_()
        assert layer.weight.equal(before)
        assert not weight_of(layer).requires_grad


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_backend_tells_to_the_bit_what_a_loaded_base_keeps_of_a_weight(
    family: Any, method: str, dtype: str
) -> None:
    """Starts are computed from this before anything is quantized."""
    chosen, folder = family
    plain = load_base(folder, Unquantized(), options(dtype)).model
    quantized = load_base(folder, METHODS[method], options(dtype)).model
    for name in chosen.modules(plain):
        weight = weight_of(plain.get_submodule(name))
        layer = quantized.get_submodule(name)
        assert is_quantized(layer)
        kept = METHODS[method].requantized(weight.to(getattr(torch, dtype)))
        assert kept.dtype == torch.float32
        assert weight_of(layer).equal(kept)
        assert weight_of(layer, on_meta=True).shape == weight.shape


def test_an_int8_weight_is_the_same_after_a_first_forward(family: Any) -> None:
    """The layer then holds its scales elsewhere."""
    chosen, folder = family
    model = load_base(folder, METHODS["int8"], options()).model
    name = chosen.modules(model)[0]
    before = weight_of(model.get_submodule(name))
    rows = batch()
    with torch.no_grad():
        model(input_ids=rows.input_ids, attention_mask=rows.attention_mask)
    assert weight_of(model.get_submodule(name)).equal(before)
