"""OFT: its parameters, its rotation, and blocks that cut no module's inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.adapters.oft import Oft
from tests.helpers.linear_layers import SHAPES, adapted, counted, trained_by_peft
from tests.helpers.settings import setting


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("block_size", [2, 8])
@pytest.mark.parametrize("share", [False, True])
def test_peft_trains_as_many_numbers(shapes: Any, block_size: int, share: bool) -> None:
    spec = Oft(block_size=block_size, share_blocks=share)
    assert trained_by_peft(spec, *shapes) == counted(spec, *shapes)


def test_the_inputs_are_turned_in_blocks() -> None:
    model, _ = adapted(Oft(block_size=4, cayley="exact"), (12, 5))
    layer = model.base_model.model.m0
    assert not layer.oft_R["default"].weight.any()
    torch.nn.init.normal_(layer.oft_R["default"].weight)
    rotation = layer.get_delta_weight("default")
    blocks = [rotation[n : n + 4, n : n + 4] for n in (0, 4, 8)]
    torch.testing.assert_close(rotation, torch.block_diag(*blocks))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(12), rtol=0, atol=1e-5)
    inputs = torch.randn(5, 12)
    torch.testing.assert_close(layer(inputs), layer.base_layer(inputs @ rotation))


def test_a_short_series_is_nearly_a_rotation() -> None:
    model, _ = adapted(Oft(block_size=4), (8, 5))
    layer = model.base_model.model.m0
    torch.nn.init.normal_(layer.oft_R["default"].weight, std=0.01)
    rotation = layer.get_delta_weight("default")
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(8), rtol=0, atol=1e-5)


def test_shared_blocks_turn_alike() -> None:
    model, _ = adapted(Oft(block_size=4, share_blocks=True), (8, 5))
    layer = model.base_model.model.m0
    torch.nn.init.normal_(layer.oft_R["default"].weight)
    rotation = layer.get_delta_weight("default")
    assert rotation[:4, :4].equal(rotation[4:, 4:])


@pytest.mark.parametrize(
    ("block_size", "shapes", "odd", "hint"),
    [
        (32, [(64, 8), (48, 8)], "48 inputs of `m1`", "use 16"),
        (5, [(32, 7)], "32 inputs of `m0`", "use 4"),
        (4, [(9, 8), (15, 8)], "9 inputs of `m0`", "use 3"),
        (64, [(32, 7)], "32 inputs of `m0`", "use 32"),
        (4, [(7, 8), (9, 8)], "7 inputs of `m0`", "adapt modules whose inputs have a divisor"),
    ],
)
def test_blocks_that_do_not_cut_the_inputs_are_a_problem(
    block_size: int, shapes: Any, odd: str, hint: str
) -> None:
    (problem,) = Oft(block_size=block_size).problems(setting(*shapes))
    assert problem.field == "block_size"
    assert problem.message == f"blocks of {block_size} do not divide the {odd}"
    assert problem.hint.startswith(hint)


@given(block_size=st.integers(2, 64), inputs=st.lists(st.integers(2, 512), min_size=1, max_size=3))
def test_the_size_that_the_hint_names_is_no_problem(block_size: int, inputs: list[int]) -> None:
    bare = setting(*[(each, 8) for each in inputs])
    for problem in Oft(block_size=block_size).problems(bare):
        size = problem.hint.removeprefix("use ")
        assert not size.isdigit() or not list(Oft(block_size=int(size)).problems(bare))
