"""DoRA: its parameters, its decomposition of the weight, and int8 on a CPU, where peft fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from lora_cli.adapters.dora import Dora
from lora_cli.model.adapter import attach_adapter
from lora_cli.model.layers import weight_of
from lora_cli.quantization.bitsandbytes import EightBit
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.variants import Base, logits, optimizer_of, tokens, train

TinyModel = Callable[[str], Path]
SIZES = st.integers(1, 4096)

pytestmark = [
    PLAIN_PEFT,
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
]


@given(rank=st.integers(1, 512), shapes=st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=4))
def test_trained_are_a_pair_and_a_magnitude_a_row(rank: int, shapes: list[Any]) -> None:
    expected = sum(rank * (width + height) + height for width, height in shapes)
    assert Dora(rank=rank).trainable_parameters(setting(*shapes)) == expected


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_count_is_that_of_the_model(
    tiny_model: TinyModel, architecture: str, dtype: str
) -> None:
    base = Base(tiny_model(architecture), architecture, dtype=dtype)
    adapter = base.adapted(Dora(rank=3))
    trained = sum(each.numel() for each in adapter.model.parameters() if each.requires_grad)
    assert trained == adapter.spec.trainable_parameters(base.setting())


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "tied_llama"])
@pytest.mark.parametrize("method", ["none", "nf4", "fp4", "int8"])
def test_it_starts_as_the_base_learns_and_reloads(
    tiny_model: TinyModel, tmp_path: Path, architecture: str, method: str
) -> None:
    base = Base(tiny_model(architecture), architecture, method)
    adapter = base.adapted(Dora(rank=4))
    start = logits(base.load())
    # the magnitude over the norm is 1, to float32's rounding
    torch.testing.assert_close(logits(adapter.model), start, rtol=0, atol=1e-5)
    losses = train(adapter, optimizer_of(adapter, 0.01))
    assert losses[-1] < losses[0] - 0.3
    found = logits(adapter.model)
    assert (found - start).abs().max() > 0.1
    reloaded = logits(base.reloaded(adapter, tmp_path))
    torch.testing.assert_close(reloaded, found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_weight_is_the_direction_times_the_magnitude(
    tiny_model: TinyModel, architecture: str
) -> None:
    base = Base(tiny_model(architecture), architecture)
    adapter = base.adapted(Dora(rank=4, alpha=6.0))
    train(adapter, optimizer_of(adapter, 0.01), last=3)
    name = base.modules()[0]
    layer = adapter.model.get_base_model().get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    direction = weight_of(layer.base_layer) + 6.0 / 4 * b @ a
    magnitude = layer.lora_magnitude_vector["default"].weight
    expected = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
    inputs = torch.randn(5, direction.shape[1], generator=torch.Generator().manual_seed(0))
    bias = 0 if layer.base_layer.bias is None else layer.base_layer.bias
    torch.testing.assert_close(layer(inputs), inputs @ expected.T + bias, rtol=1e-5, atol=1e-6)


def test_the_state_is_put_back_with_its_magnitudes(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"))
    adapter = base.adapted(Dora(rank=4))
    train(adapter, optimizer_of(adapter, 0.01), last=2)
    state, found = adapter.state(), logits(adapter.model)
    assert sum("magnitude" in name for name in state) == len(base.modules())
    train(adapter, optimizer_of(adapter, 0.01), last=2)
    assert not logits(adapter.model).equal(found)
    adapter.load_state(state)
    assert logits(adapter.model).equal(found)


def test_int8_goes_on_learning_after_an_evaluation(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"), method="int8")
    adapter = base.adapted(Dora(rank=4))
    optimizer = optimizer_of(adapter, 0.01)
    first = train(adapter, optimizer, last=5)
    before = adapter.state()
    logits(adapter.model)
    second = train(adapter, optimizer, first=6, last=20)
    assert second[-1] < first[-1] < first[0]
    after = adapter.state()
    moved = [bool((after[name] != before[name]).any()) for name in before]
    assert all(moved), "A, B and the magnitudes of every module"


def test_peft_still_loses_the_scales_of_int8_on_a_cpu(tiny_model: TinyModel) -> None:
    """Once it does not, `EightBit.after_load` and this test can go."""
    model = AutoModelForCausalLM.from_pretrained(
        str(tiny_model("llama")),
        dtype=torch.float32,
        device_map={"": "cpu"},
        **EightBit(method="int8").load_kwargs(torch.float32),
    )
    names = ["model.layers.0.self_attn.q_proj"]
    plain = attach_adapter(model, Dora(rank=4), peft_names=names, modules=names, seed=0).model
    plain(input_ids=tokens())
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute"):
        plain(input_ids=tokens())
