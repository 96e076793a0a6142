"""MiSS: its parameters, its equation, and ranks over what a module has."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_cli.adapters.miss import Miss
from tests.helpers.linear_layers import SHAPES, adapted, counted, trained_by_peft
from tests.helpers.settings import setting


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_peft_trains_as_many_numbers(shapes: Any, rank: int) -> None:
    assert trained_by_peft(Miss(rank=rank), *shapes) == counted(Miss(rank=rank), *shapes)


@pytest.mark.parametrize("rank", [4, 5], ids=["divides the inputs", "leaves a rest"])
def test_the_update_repeats_one_block(rank: int) -> None:
    model, _ = adapted(Miss(rank=rank), (12, 7))
    layer = model.base_model.model.m0
    block = layer.miss_block["default"]
    assert not block.any(), "it starts as the base"
    torch.nn.init.normal_(block)
    update = block.T.repeat(1, 3)[:, :12]
    assert torch.linalg.matrix_rank(update) == rank
    inputs = torch.randn(5, 12)
    added = layer(inputs) - layer.base_layer(inputs)
    torch.testing.assert_close(added, inputs @ update.T, rtol=1e-5, atol=1e-5)


def test_a_rank_over_the_inputs_is_a_problem() -> None:
    (problem,) = Miss(rank=17).problems(setting((32, 8), (16, 64)))
    assert problem.field == "rank"
    assert problem.message == "a rank of 17 is over the 16 inputs of `m1`"
    assert problem.hint == "use at most 16"
    assert not list(Miss(rank=16).problems(setting((32, 8), (16, 64))))
