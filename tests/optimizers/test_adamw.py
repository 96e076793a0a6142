"""AdamW, held against the paper's algorithm written out."""

from __future__ import annotations

import torch

from lora_cli.optimizers.adamw import AdamW


def test_a_step_is_the_papers() -> None:
    spec = AdamW(weight_decay=0.1, beta1=0.8, beta2=0.95, epsilon=1e-3)
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = spec.build([parameter], learning_rate=0.05)
    expected, mean, square = parameter.detach().clone(), 0.0, 0.0
    for step, gradient in enumerate([[0.5, 2.0], [-1.0, 0.25], [0.1, 0.1]], 1):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        mean = 0.8 * mean + 0.2 * parameter.grad
        square = 0.95 * square + 0.05 * parameter.grad**2
        update = (mean / (1 - 0.8**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-3)
        expected = expected - 0.05 * 0.1 * expected - 0.05 * update
        optimizer.step()
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-12, atol=0)


def test_the_state_has_the_parameters_own_dtype() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = AdamW().build([parameter], learning_rate=0.1)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert optimizer.state[parameter]["exp_avg"].dtype == torch.bfloat16


def test_nothing_decays_by_default() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW().build([parameter], learning_rate=0.1)
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert parameter.tolist() == [1.0, 1.0, 1.0]
