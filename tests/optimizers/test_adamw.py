"""AdamW, held against the paper's algorithm written out; and the rates of LoRA+."""

from __future__ import annotations

import pytest
import torch

from lora_cli.optimizers.adamw import AdamW
from tests.helpers.optimizers import pair_of, papers_adamw

GRADIENTS = [[0.5, 2.0], [-1.0, 0.25], [0.1, 0.1]]


def test_a_step_is_the_papers() -> None:
    spec = AdamW(weight_decay=0.1, beta1=0.8, beta2=0.95, epsilon=1e-3)
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = spec.build({"p": parameter}, learning_rate=0.05)
    for expected in papers_adamw(spec, parameter, GRADIENTS, learning_rate=0.05):
        optimizer.step()
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-12, atol=0)


def test_the_state_has_the_parameters_own_dtype() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = AdamW().build({"p": parameter}, learning_rate=0.1)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert optimizer.state[parameter]["exp_avg"].dtype == torch.bfloat16


def test_nothing_decays_by_default() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW().build({"p": parameter}, learning_rate=0.1)
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert parameter.tolist() == [1.0, 1.0, 1.0]


def test_what_is_frozen_is_left_out() -> None:
    frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    trained = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW().build({"a": frozen, "b": trained}, learning_rate=0.1)
    assert [group["params"] for group in optimizer.param_groups] == [[trained]]


@pytest.mark.parametrize("ratio", [16.0, 0.5])
def test_with_lora_plus_every_b_has_its_own_rate(ratio: float) -> None:
    parameters = {**pair_of("q_proj"), **pair_of("v_proj"), "norm.weight": torch.nn.Parameter()}
    spec = AdamW(lora_plus_ratio=ratio)
    others, of_b = spec.build(parameters, learning_rate=1e-3).param_groups
    assert (others["lr"], of_b["lr"]) == (1e-3, ratio * 1e-3)
    assert spec.rate_of_b(1e-3) == ratio * 1e-3
    names = {id(each): name for name, each in parameters.items()}
    assert [names[id(each)] for each in of_b["params"]] == [
        "model.q_proj.lora_B.default.weight",
        "model.v_proj.lora_B.default.weight",
    ]
    assert len(others["params"]) == 3


def test_the_pair_of_an_embedding_has_one_rate() -> None:
    """There A starts at zero and B at random, the other way round."""
    name = "embed_tokens.lora_embedding_{}.default"
    parameters = {name.format(side): torch.nn.Parameter(torch.ones(2)) for side in "AB"}
    others, of_b = AdamW(lora_plus_ratio=4).build(parameters, learning_rate=1e-3).param_groups
    assert (len(others["params"]), len(of_b["params"])) == (2, 0)


def test_the_schedule_is_that_of_both_rates() -> None:
    optimizer = AdamW(lora_plus_ratio=16).build(pair_of("q_proj"), learning_rate=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [5e-4, 8e-3]
