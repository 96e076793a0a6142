"""LoKr: its parameters, its equation, and factors that divide no side."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.adapters.lokr import LoKr
from tests.helpers.linear_layers import SHAPES, adapted, counted, trained_by_peft
from tests.helpers.settings import setting

SIDES = st.integers(1, 60)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("factor", [None, 2, 4, 8])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("rank", [1, 3, 16])
def test_peft_trains_as_many_numbers(
    shapes: Any, factor: int | None, both: bool, rank: int
) -> None:
    spec = LoKr(rank=rank, factor=factor, decompose_both=both)
    assert trained_by_peft(spec, *shapes) == counted(spec, *shapes)


@settings(max_examples=40, deadline=None)
@given(rank=st.integers(1, 9), inputs=SIDES, outputs=SIDES, both=st.booleans())
def test_peft_cuts_any_side_in_the_same_two(
    rank: int, inputs: int, outputs: int, both: bool
) -> None:
    spec = LoKr(rank=rank, decompose_both=both)
    assert trained_by_peft(spec, (inputs, outputs)) == counted(spec, (inputs, outputs))


@pytest.mark.parametrize(("alpha", "scaling"), [(None, 1.0), (6.0, 3.0)])
def test_the_update_is_its_equation(alpha: float | None, scaling: float) -> None:
    model, _ = adapted(LoKr(rank=2, factor=4, alpha=alpha), (24, 48))
    layer = model.base_model.model.m0
    first = layer.lokr_w1["default"]
    b, a = layer.lokr_w2_a["default"], layer.lokr_w2_b["default"]
    assert not first.any(), "it starts as the base"
    torch.nn.init.normal_(first)
    update = scaling * torch.kron(first, b @ a)
    inputs = torch.randn(5, 24)
    added = layer(inputs) - layer.base_layer(inputs)
    torch.testing.assert_close(added, inputs @ update.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("factor", "shape", "hint"),
    [
        (5, (32, 64), "use 4, or leave it out"),
        (16, (8, 32), "use 8, or leave it out"),
        (3, (7, 9), "leave it out"),
    ],
)
def test_a_factor_that_divides_no_side_is_a_problem(
    factor: int, shape: tuple[int, int], hint: str
) -> None:
    (problem,) = LoKr(factor=factor).problems(setting(shape, shape))
    assert problem.field == "factor"
    assert problem.message == (
        f"a factor of {factor} does not divide `m0`, {shape[1]} × {shape[0]}"
    )
    assert problem.hint == hint


def test_a_factor_that_divides_them_is_none() -> None:
    assert not list(LoKr(factor=8).problems(setting((8, 32), (64, 16))))
    assert not list(LoKr().problems(setting((7, 11))))
