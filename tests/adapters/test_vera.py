"""VeRA: its parameters, its equation, and random matrices that come along with what is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.adapters.vera import Vera
from tests.helpers.linear_layers import SHAPES, adapted, counted, trained_by_peft
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.variants import Base

TinyModel = Callable[[str], Path]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("rank", [1, 5, 300])
def test_peft_trains_as_many_numbers(shapes: Any, rank: int) -> None:
    assert trained_by_peft(Vera(rank=rank), *shapes) == counted(Vera(rank=rank), *shapes)


@given(rank=st.integers(1, 2048), inputs=st.integers(1, 9999), outputs=st.integers(1, 9999))
def test_a_higher_rank_costs_one_number_a_module(rank: int, inputs: int, outputs: int) -> None:
    assert counted(Vera(rank=rank), (inputs, outputs)) == rank + outputs


@pytest.mark.parametrize(("rank", "thousands"), [(1, 18.4), (16, 18.8), (256, 24.5)])
def test_the_paper_s_counts_for_roberta_base(rank: int, thousands: float) -> None:
    """Table 1: query and value of 12 layers of 768; its figures are cut, not rounded."""
    assert counted(Vera(rank=rank), *24 * [(768, 768)]) // 100 == thousands * 10


def test_the_update_is_its_equation() -> None:
    model, spec = adapted(Vera(rank=3, d_initial=0.5), (6, 4))
    layer = model.base_model.model.m0
    d, b = layer.vera_lambda_d["default"], layer.vera_lambda_b["default"]
    assert torch.equal(d, torch.full((3,), 0.5))
    assert not b.any(), "it starts as the base"
    torch.nn.init.normal_(b)
    a, big_b = layer.vera_A["default"], layer.vera_B["default"]
    update = torch.diag(b) @ big_b @ torch.diag(d) @ a
    inputs = torch.randn(5, 6)
    added = layer(inputs) - layer.base_layer(inputs)
    torch.testing.assert_close(added, inputs @ update.T, rtol=1e-5, atol=1e-6)
    assert spec.rank == 3


@PLAIN_PEFT
def test_its_random_matrices_are_the_recipe_s_and_are_saved(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"))
    one, same, other = (base.adapted(Vera(rank=4), seed=seed).saved() for seed in (1, 1, 2))
    for name in ("base_model.vera_A", "base_model.vera_B"):
        assert one.tensors[name].equal(same.tensors[name])
        assert not one.tensors[name].equal(other.tensors[name])
    assert one.config.save_projection
    assert one.config.projection_prng_key == 1
