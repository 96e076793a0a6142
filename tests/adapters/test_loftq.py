"""LoftQ: what quantizing loses, made up for by as much as a pair can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lora_cli.adapters import LoftQ
from lora_cli.adapters.singular_values import decompose
from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from tests.helpers.settings import setting
from tests.helpers.starts import evidence, matrix, product

METHODS: dict[str, Any] = {
    "nf4": FourBit(method="nf4"),
    "fp4": FourBit(method="fp4", double_quantization=False),
    "int8": EightBit(method="int8"),
}


def held(weight: torch.Tensor, method: str, **fields: Any) -> torch.Tensor:
    """Return the weight that a base and its adapter come to before training."""
    spec = LoftQ(**fields)
    quantization = METHODS[method]
    found = spec.start(
        evidence(
            weight,
            rank=spec.rank,
            scaling=spec.scaling,
            requantized=quantization.requantized,
        )
    )
    rest = weight if found.taken is None else weight - spec.scaling * product(found.taken)
    quantized: torch.Tensor = quantization.requantized(rest)
    return quantized + spec.scaling * product(found.first)


def relative_error(weight: torch.Tensor, other: torch.Tensor) -> float:
    return float((weight - other).norm() / weight.norm())


@pytest.mark.parametrize("method", METHODS)
def test_one_iteration_makes_up_for_the_largest_part_of_the_error(method: str) -> None:
    weight = 0.02 * matrix(64, 64)
    error = weight - METHODS[method].requantized(weight)
    expected = decompose(error).values[8:].norm() / weight.norm()
    after = relative_error(weight, held(weight, method, rank=8))
    assert after == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_each_iteration_goes_on_with_the_last_one(method: str) -> None:
    """Algorithm 1: the pair is what is left over by the base, which was left over by the pair."""
    weight, scaling = 0.02 * matrix(64, 64), 2.0
    quantized = METHODS[method].requantized
    given = evidence(weight, rank=8, scaling=scaling, requantized=quantized)
    earlier, later = (LoftQ(rank=8, iterations=n).start(given) for n in (2, 3))
    assert later.taken is not None
    torch.testing.assert_close(product(later.taken), product(earlier.first))
    left = weight - quantized(weight - scaling * product(later.taken))
    expected = decompose(left).part(slice(8))
    torch.testing.assert_close(
        scaling * product(later.first), expected.left * expected.values @ expected.right
    )


def test_the_measured_errors_of_nf4() -> None:
    """A tiny llama of 64 columns, rank 8: 0.092 quantized alone, 0.075 after one, 0.065 after 5."""
    shapes = [(64, 64), (32, 64), (32, 64), (64, 64), (128, 64), (128, 64), (64, 128)]
    weights = [0.02 * matrix(*shape, seed) for seed, shape in enumerate(2 * shapes)]

    def error(made: Callable[[torch.Tensor], torch.Tensor]) -> float:
        one, other = (
            torch.cat([w.flatten() for w in each]) for each in (weights, map(made, weights))
        )
        return relative_error(one, other)

    assert error(METHODS["nf4"].requantized) == pytest.approx(0.092, abs=0.002)
    for iterations, expected in ((1, 0.075), (5, 0.065)):
        made = error(lambda w, n=iterations: held(w, "nf4", rank=8, iterations=n))
        assert made == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize(("iterations", "own"), [(1, False), (2, True)])
def test_the_base_is_everybodys_after_one_iteration_and_its_own_after_more(
    iterations: int, own: bool
) -> None:
    spec = LoftQ(rank=2, iterations=iterations)
    start = spec.start(evidence(matrix(64, 64), rank=2, requantized=METHODS["nf4"].requantized))
    assert spec.takes_from_base is own
    assert (start.taken is not None) is own


def test_without_quantization_there_is_nothing_to_make_up_for() -> None:
    assert "nothing is quantized" in LoftQ.capability.refusal("none", conv1d=False)
    assert all(LoftQ.capability.refusal(method, conv1d=True) == "" for method in METHODS)


def test_the_rank_is_at_most_that_of_the_error() -> None:
    assert [problem.field for problem in LoftQ(rank=9).problems(setting((8, 16)))] == ["rank"]
    assert list(LoftQ(rank=8).problems(setting((8, 16)))) == []
