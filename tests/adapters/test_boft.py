"""BOFT: its parameters, its rotation of several factors, and one of them that is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel

from lora_cli.adapters.boft import Boft
from tests.helpers.linear_layers import SHAPES, adapted, counted, trained_by_peft
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.variants import Base, logits, optimizer_of, train, write

TinyModel = Callable[[str], Path]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(("block_size", "factors"), [(2, 1), (8, 1), (4, 2), (2, 3)])
def test_peft_trains_as_many_numbers(shapes: Any, block_size: int, factors: int) -> None:
    spec = Boft(block_size=block_size, butterfly_factors=factors)
    assert trained_by_peft(spec, *shapes) == counted(spec, *shapes)


@pytest.mark.parametrize(("block_size", "factors"), [(4, 1), (4, 2), (2, 3)])
def test_the_factors_turn_inputs_in_larger_blocks_and_scale_outputs(
    block_size: int, factors: int
) -> None:
    spec = Boft(block_size=block_size, butterfly_factors=factors)
    model, _ = adapted(spec, (16, 5))
    layer = model.base_model.model.m0
    torch.testing.assert_close(layer(torch.eye(16)), layer.base_layer(torch.eye(16)))
    torch.nn.init.normal_(layer.boft_R["default"])
    torch.nn.init.normal_(layer.boft_s["default"])
    rotation, scale = layer.get_delta_weight("default")
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(16), rtol=0, atol=1e-5)
    span = block_size * 2 ** (factors - 1)
    met = rotation.abs() > 1e-4
    inside = torch.block_diag(*[torch.ones(span, span)] * (16 // span)).bool()
    assert met.equal(inside), "all inputs of a span meet, and no others"
    inputs, bias = torch.randn(3, 16), layer.base_layer.bias
    expected = (layer.base_layer(inputs @ rotation) - bias) * scale.flatten() + bias
    torch.testing.assert_close(layer(inputs), expected, rtol=1e-4, atol=1e-5)


def test_the_kernel_s_place_is_a_block_diagonal_with_its_gradient() -> None:
    from peft.tuners.boft.layer import FastBlockDiag

    Boft().peft_config([])
    blocks = torch.randn(2, 3, 4, 4, requires_grad=True)
    same = blocks.detach().clone().requires_grad_()
    found = FastBlockDiag.apply(blocks)
    expected = torch.stack([torch.block_diag(*factor) for factor in same])
    assert found.equal(expected)
    weights = torch.randn_like(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert blocks.grad is not None
    assert same.grad is not None
    assert blocks.grad.equal(same.grad)


@PLAIN_PEFT
@pytest.mark.parametrize(("block_size", "factors"), [(8, 1), (4, 2), (4, 3)])
def test_what_is_saved_loads_without_the_kernel(
    tiny_model: TinyModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    block_size: int,
    factors: int,
) -> None:
    base = Base(tiny_model("llama"))
    adapter = base.adapted(Boft(block_size=block_size, butterfly_factors=factors))
    losses = train(adapter, optimizer_of(adapter, 0.02))
    assert losses[-1] < losses[0] - 0.1
    found = logits(adapter.model)
    write(adapter, tmp_path)
    assert logits(adapter.model).equal(found), "saving changes nothing"
    monkeypatch.setattr("peft.tuners.boft.layer.get_fbd_cuda", lambda: None)
    reloaded = PeftModel.from_pretrained(base.load(), tmp_path)
    config, span = reloaded.peft_config["default"], block_size * 2 ** (factors - 1)
    assert (config.boft_n_butterfly_factor, config.boft_block_size) == (1, span)
    # float32's rounding of one rotation in place of several
    torch.testing.assert_close(logits(reloaded), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("block_size", "factors", "inputs", "message", "hint"),
    [
        (8, 1, 12, "1 × blocks of 8 do not divide the 12 inputs of `m0`", "use 6"),
        (8, 2, 24, "2 × blocks of 8 do not divide the 24 inputs of `m0`", "use 6"),
        (3, 2, 24, "several factors halve blocks, and 3 is odd", "use 2"),
        (8, 4, 16, "8 × blocks of 8 do not divide the 16 inputs of `m0`", "use 2"),
        (8, 5, 16, "16 × blocks of 8 do not divide the 16 inputs of `m0`", "use fewer butterfly"),
    ],
)
def test_factors_that_do_not_cut_the_inputs_are_a_problem(
    block_size: int, factors: int, inputs: int, message: str, hint: str
) -> None:
    spec = Boft(block_size=block_size, butterfly_factors=factors)
    (problem,) = spec.problems(setting((inputs, 8)))
    assert problem.field == "block_size"
    assert problem.message == message
    assert problem.hint.startswith(hint)


@settings(max_examples=40, deadline=None)
@given(block_size=st.integers(2, 32), factors=st.integers(1, 5), eighths=st.integers(1, 20))
def test_peft_builds_what_is_no_problem(block_size: int, factors: int, eighths: int) -> None:
    spec, shape = Boft(block_size=block_size, butterfly_factors=factors), (8 * eighths, 4)
    if list(spec.problems(setting(shape))):
        with pytest.raises(ValueError, match=r"divisible|combination|even|multiple"):
            adapted(spec, shape)
    else:
        assert trained_by_peft(spec, shape) == counted(spec, shape)
