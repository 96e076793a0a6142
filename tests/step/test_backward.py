"""Gradients of one micro batch, scaled so that micro batches add up; and clipping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lora_cli.step.backward import accumulate_gradients, clip_gradients
from lora_cli.tasks.causal_lm import Batch, CausalLm, collate, score


class Table(nn.Module):
    """Predicts each token from the one before, out of a table."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.weight = nn.Parameter(torch.randn(6, 6))

    def forward(self, input_ids: torch.Tensor, **_: object) -> Any:
        return type("Output", (), {"logits": self.weight[input_ids]})


def batch(*rows: list[int]) -> Batch:
    pairs = [(np.array(row, dtype=np.int32), np.array(row, dtype=np.int32)) for row in rows]
    return collate(pairs, padding_id=0, device=torch.device("cpu"))


def gradients(*batches: Batch, scale: float) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model = Table()
    sums = [
        accumulate_gradients(CausalLm(), model, part, scale=scale, backward=torch.Tensor.backward)
        for part in batches
    ]
    assert model.weight.grad is not None
    return model.weight.grad, sums


def test_micro_batches_add_up_to_the_unsplit_batch() -> None:
    rows = [[1, 2, 3, 4, 5], [2, 3], [0, 1, 2, 3]]
    whole, whole_sums = gradients(batch(*rows), scale=1 / 8)
    parts, part_sums = gradients(*(batch(row) for row in rows), scale=1 / 8)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.stack(part_sums).sum(), whole_sums[0])


def test_the_returned_sum_is_not_scaled_and_holds_no_graph() -> None:
    part = batch([1, 2, 3])
    _, (loss,) = gradients(part, scale=0.25)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, score(Table(), part).loss_sum.detach())


@pytest.mark.parametrize("scale", [1.0, 0.5, 3.0])
def test_gradients_are_those_of_the_scaled_sum(scale: float) -> None:
    part = batch([1, 2, 3])
    one, _ = gradients(part, scale=1.0)
    scaled, _ = gradients(part, scale=scale)
    torch.testing.assert_close(scaled, one * scale)


def test_gradients_go_through_the_given_backward() -> None:
    seen: list[torch.Tensor] = []
    model, part = Table(), batch([1, 2, 3])
    accumulate_gradients(CausalLm(), model, part, scale=0.5, backward=seen.append)
    assert model.weight.grad is None, "nothing else runs backward"
    torch.testing.assert_close(seen[0], score(model, part).loss_sum * 0.5)


def with_gradients(*values: list[float]) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(len(value))) for value in values]
    for parameter, value in zip(made, values, strict=True):
        parameter.grad = torch.tensor(value)
    return made


def test_a_norm_over_all_parameters_is_clipped() -> None:
    parameters = with_gradients([3.0, 0.0], [4.0])
    assert float(clip_gradients(parameters, 1.0)) == 5.0
    joined = torch.cat([p.grad for p in parameters if p.grad is not None])
    torch.testing.assert_close(joined, torch.tensor([0.6, 0.0, 0.8]), atol=1e-5, rtol=0)


def test_a_smaller_norm_is_left_alone() -> None:
    (parameter,) = with_gradients([0.3, 0.4])
    assert float(clip_gradients([parameter], 1.0)) == pytest.approx(0.5)
    assert parameter.grad is not None
    assert parameter.grad.tolist() == pytest.approx([0.3, 0.4])


def test_a_norm_that_is_not_finite_is_told() -> None:
    assert not clip_gradients(with_gradients([float("nan")]), 1.0).isfinite()
    assert not clip_gradients(with_gradients([float("inf"), 1.0]), 1.0).isfinite()
