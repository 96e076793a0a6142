"""RandLoRA: its parameters, its equation, and random bases that come along with what is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.adapters.randlora import RandLora
from tests.helpers.linear_layers import SHAPES, adapted, counted, trained_by_peft
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.variants import Base

TinyModel = Callable[[str], Path]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 8, 100])
def test_peft_trains_as_many_numbers(shapes: Any, rank: int) -> None:
    assert trained_by_peft(RandLora(rank=rank), *shapes) == counted(RandLora(rank=rank), *shapes)


@given(rank=st.integers(1, 64), sides=st.tuples(st.integers(1, 4096), st.integers(1, 4096)))
def test_the_terms_add_up_to_full_rank(rank: int, sides: tuple[int, int]) -> None:
    smaller = min(sides)
    terms = counted(RandLora(rank=rank), sides) / (rank + smaller)
    assert smaller <= terms * rank < smaller + rank


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_the_update_is_its_equation(shape: tuple[int, int]) -> None:
    inputs, outputs = shape
    model, spec = adapted(RandLora(rank=3), shape)
    layer = model.base_model.model.m0
    scales, gammas = layer.randlora_lambda["default"], layer.randlora_gamma["default"]
    assert scales.shape == (3, 2), "two terms of rank 3 for a rank of 4"
    assert not scales.any(), "it starts as the base"
    torch.nn.init.normal_(scales)
    torch.nn.init.normal_(gammas)
    a = layer.randlora_A["default"][:, 0]
    # peft deals the columns of its random matrix out to the bases in turn
    bases = [layer.randlora_B["default"].flatten(1)[:, i::2] for i in range(2)]
    terms = [bases[i] @ torch.diag(scales[:, i]) @ a @ torch.diag(gammas[i]) for i in range(2)]
    update = spec.alpha / spec.rank * sum(terms)
    update = update if update.shape == (outputs, inputs) else update.T
    x = torch.randn(5, inputs)
    added = layer(x) - layer.base_layer(x)
    torch.testing.assert_close(added, x @ update.T, rtol=1e-4, atol=1e-4)


def test_without_alpha_the_scaling_is_20() -> None:
    model, spec = adapted(RandLora(rank=7), (8, 8))
    assert spec.alpha == 140
    assert model.base_model.model.m0.scaling["default"] == 20


@PLAIN_PEFT
def test_its_bases_are_the_recipe_s_and_are_saved(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"))
    one, same, other = (base.adapted(RandLora(rank=4), seed=seed).saved() for seed in (1, 1, 2))
    for name in ("base_model.randlora_A", "base_model.randlora_B"):
        assert one.tensors[name].equal(same.tensors[name])
        assert not one.tensors[name].equal(other.tensors[name])
    assert one.config.save_projection
