"""What float32 leaves open of a model's answers: a unit in the last place of each number."""

from __future__ import annotations

import torch
from torch import nn

from lora_cli.merge.noise import nudged


def test_each_module_without_children_gives_its_numbers_a_unit_up_or_down() -> None:
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU())
    inputs = torch.randn(5, 8)
    exact = model[0](inputs)
    with nudged(model.modules()):
        moved = (model[0](inputs) / exact - 1) / torch.finfo(torch.float32).eps
        assert moved.abs().max() <= 2
        assert (moved > 0).any()
        assert (moved < 0).any()
        assert not model(inputs).equal(exact.relu())
    assert model(inputs).equal(exact.relu())


def test_what_is_no_number_is_left_alone() -> None:
    class Two(nn.Module):
        def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, int]:
            return inputs, 3

    class Whole(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs.long()

    for module in (Two(), Whole()):
        inputs = torch.arange(4.0)
        expected = module(inputs)
        with nudged([module]):
            assert str(module(inputs)) == str(expected)
