"""Singular values: exact ones, and the quick ones that are the same at every call."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.adapters.singular_values import decompose, decompose_roughly
from tests.helpers.starts import matrix, product, with_values

SIZES = st.integers(1, 12)


@given(rows=SIZES, columns=SIZES, seed=st.integers(0, 9))
def test_a_decomposition_is_the_matrix(rows: int, columns: int, seed: int) -> None:
    weight = matrix(rows, columns, seed)
    left, values, right = decompose(weight)
    # float32 rounds at 1e-7 of numbers around 1, over sums of a dozen
    torch.testing.assert_close(left * values @ right, weight, atol=1e-5, rtol=0)
    assert list(values) == sorted(values, reverse=True)
    assert min(values) >= 0


@given(scaling=st.floats(0.01, 100), rank=st.integers(1, 6))
def test_factors_are_of_equal_size_and_their_scaled_product_is_the_part(
    scaling: float, rank: int
) -> None:
    part = decompose(matrix(8, 6)).part(slice(rank))
    pair = part.factors(scaling)
    assert (pair.a.shape, pair.b.shape) == ((rank, 6), (8, rank))
    torch.testing.assert_close(
        scaling * product(pair), part.left * part.values @ part.right, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(pair.a.norm(dim=1), pair.b.norm(dim=0))


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (5, 40)])
@pytest.mark.parametrize("iterations", [1, 4])
def test_the_rough_one_finds_all_of_a_matrix_of_low_rank(
    shape: tuple[int, int], iterations: int
) -> None:
    weight = with_values(*shape, [9.0, 3.0, 1.0, 0.5])
    left, values, right = decompose_roughly(weight, 4, iterations)
    torch.testing.assert_close(values, torch.tensor([9.0, 3.0, 1.0, 0.5]), atol=1e-5, rtol=0)
    torch.testing.assert_close(left * values @ right, weight, atol=1e-5, rtol=0)


def test_the_rough_one_is_nearly_the_best_of_its_rank() -> None:
    """The best error is that of the values left out; a flat spectrum is the hardest case."""
    weight = matrix(96, 64)
    best = decompose(weight).values[8:].norm()
    left, values, right = decompose_roughly(weight, 8, 4)
    error = (weight - left * values @ right).norm()
    assert best <= error <= 1.02 * best


def test_the_rough_one_is_always_the_same_and_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    one = decompose_roughly(matrix(20, 16), 4, 2)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    other = decompose_roughly(matrix(20, 16), 4, 2)
    assert torch.get_rng_state().equal(state)
    torch.set_rng_state(before)
    assert all(first.equal(second) for first, second in zip(one, other, strict=True))
