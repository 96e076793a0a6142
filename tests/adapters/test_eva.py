"""EVA: A is where the inputs have the most energy, as the paper and peft have it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from torch import nn

from lora_cli.adapters import Eva
from lora_cli.model.evidence import Calibration, mean_inputs
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.starts import evidence, matrix, smallest_cosine, with_values


def moment(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.T @ inputs / len(inputs)


def test_a_is_the_leading_right_singular_vectors_of_the_inputs_and_b_zero() -> None:
    inputs = with_values(30, 12, [8.0, 4.0, 2.0, 1.0, 0.5])
    start = Eva(rank=3).start(evidence(matrix(7, 12), rank=3, inputs=moment(inputs)))
    right = torch.linalg.svd(inputs).Vh[:3]
    cosines = (start.first.a * right).sum(dim=1).abs()
    torch.testing.assert_close(cosines, torch.ones(3), atol=1e-4, rtol=0)
    assert start.first.b.equal(torch.zeros(7, 3))
    assert start.taken is None


@pytest.mark.parametrize("rank", [1, 4, 12])
def test_no_other_directions_of_that_number_hold_more_of_the_inputs(rank: int) -> None:
    inputs = matrix(50, 12) * torch.linspace(3, 0.1, 12)
    a = Eva(rank=rank).start(evidence(matrix(7, 12), rank=rank, inputs=moment(inputs))).first.a
    torch.testing.assert_close(a @ a.T, torch.eye(rank), atol=1e-5, rtol=0)
    held = float((inputs @ a.T).square().sum())
    best = float(torch.linalg.svdvals(inputs)[:rank].square().sum())
    assert held == pytest.approx(best, rel=1e-5)


def test_the_rank_is_at_most_the_size_of_the_inputs() -> None:
    assert list(Eva(rank=8).problems(setting((8, 2)))) == []
    assert [problem.field for problem in Eva(rank=9).problems(setting((8, 2)))] == ["rank"]


class OneLayer(nn.Module):
    """A model that is one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 8)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(inputs)
        return found


@PLAIN_PEFT
@pytest.mark.filterwarnings("ignore:lora with eva initialization used")
def test_pefts_own_directions_are_the_same() -> None:
    """On inputs whose mean is zero: peft's incremental PCA takes the mean away first."""
    half = matrix(64, 16) * torch.tensor([2.0**-n for n in range(16)])
    inputs = torch.cat([half, -half])
    model = OneLayer()
    calibration = Calibration([Rows(inputs)], lambda model, rows: model(rows.inputs).sum())
    found = mean_inputs(model, ["layer"], calibration)["layer"]
    mine = Eva(rank=4).start(evidence(model.layer.weight.detach(), inputs=found)).first.a
    config = LoraConfig(
        r=4, target_modules=["layer"], init_lora_weights="eva", eva_config=EvaConfig(rho=1.0)
    )
    wrapped = get_peft_model(model, config)
    initialize_lora_eva_weights(
        wrapped,
        [{"inputs": inputs}],
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=None,
        show_progress_bar=False,
    )
    theirs = wrapped.base_model.model.layer.lora_A["default"].weight.detach()
    assert smallest_cosine(mine, theirs) > 0.999


class Rows:
    """A batch of inputs, all of them real."""

    def __init__(self, inputs: torch.Tensor) -> None:
        self.inputs = inputs
        self.attention_mask: Any = torch.ones(len(inputs), 1)
