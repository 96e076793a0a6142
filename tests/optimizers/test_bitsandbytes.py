"""bitsandbytes' AdamW: the same steps, a smaller state, and a checkpoint that loses none of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.optimizers.bitsandbytes import BitsAndBytesAdamW
from tests.helpers.optimizers import pair_of, papers_adamw

NAMES = ["adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
EIGHT_BIT = ["adamw_8bit", "paged_adamw_8bit"]
SMALLEST_IN_8_BITS = 4096


def settings(name: Any, **values: float) -> BitsAndBytesAdamW:
    return BitsAndBytesAdamW(name=name, **values)


def gradients(count: int, size: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_the_papers_where_the_state_has_32_bits(name: str) -> None:
    spec = settings(name, weight_decay=0.1, beta1=0.8, beta2=0.95, epsilon=1e-3)
    parameter = torch.nn.Parameter(torch.linspace(-2, 2, 16))
    optimizer = spec.build({"p": parameter}, learning_rate=0.05)
    for expected in papers_adamw(spec, parameter, gradients(3, 16), learning_rate=0.05):
        optimizer.step()
        # float32 rounding of three steps
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_the_state_has_8_bits_from_4096_numbers_on(name: str) -> None:
    """The adapter then moves nearly as with 32 bits: the code keeps the large ones best."""
    spec = settings(name)
    parameter = torch.nn.Parameter(torch.zeros(SMALLEST_IN_8_BITS))
    small = torch.nn.Parameter(torch.zeros(SMALLEST_IN_8_BITS - 1))
    optimizer = spec.build({"p": parameter, "q": small}, learning_rate=0.05)
    due = []
    coming = gradients(3, SMALLEST_IN_8_BITS)
    for expected in papers_adamw(spec, parameter, coming, learning_rate=0.05):
        small.grad = torch.ones_like(small)
        optimizer.step()
        due.append(expected)
    assert optimizer.state[parameter]["state1"].dtype == torch.uint8
    assert optimizer.state[parameter]["state2"].dtype == torch.uint8
    assert optimizer.state[small]["state1"].dtype == torch.float32
    error = (parameter.detach() - due[-1]).norm() / due[-1].norm()
    assert 0 < error < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_was_saved_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    def run(stop_after: int | None) -> tuple[torch.Tensor, bytes]:
        parameter = torch.nn.Parameter(torch.zeros(SMALLEST_IN_8_BITS))
        optimizer = settings(name).build({"p": parameter}, learning_rate=0.05)
        for step, gradient in enumerate(gradients(6, SMALLEST_IN_8_BITS), 1):
            parameter.grad = gradient
            optimizer.step()
            if step == stop_after:
                torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
                parameter = torch.nn.Parameter(parameter.detach().clone())
                optimizer = settings(name).build({"p": parameter}, learning_rate=0.05)
                saved = torch.load(tmp_path / "optimizer.pt", weights_only=True)
                optimizer.load_state_dict(saved)
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        return parameter.detach(), file.getvalue()

    whole, resumed = run(None), run(3)
    assert resumed[0].equal(whole[0])
    assert resumed[1] == whole[1]


@pytest.mark.parametrize("name", NAMES)
def test_lora_plus_goes_with_them(name: str) -> None:
    optimizer = settings(name, lora_plus_ratio=8).build(pair_of("q_proj"), learning_rate=1e-3)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 8e-3]


@pytest.mark.parametrize("name", NAMES)
def test_on_a_cpu_nothing_is_paged_and_nothing_is_said_of_it(name: str) -> None:
    """The library would warn at its first step; a warning fails this test."""
    parameter = torch.nn.Parameter(torch.ones(3))
    spec = settings(name)
    optimizer: Any = spec.build({"p": parameter}, learning_rate=0.1)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert spec.paged == name.startswith("paged")
    assert not optimizer.is_paged
