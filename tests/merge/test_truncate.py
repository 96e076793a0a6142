"""Cutting off singular values: the nearest pair of a rank, and the least rank within an error."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.adapters.variant import Factors
from lora_cli.merge.truncate import Fit, Limit, fit_factors, fit_weight

SIZES = st.integers(1, 12)


def pair_of(rank: int, inputs: int, outputs: int, seed: int = 0) -> Factors:
    torch.manual_seed(seed)
    return Factors(torch.randn(rank, inputs), torch.randn(outputs, rank))


def product(pair: Factors) -> torch.Tensor:
    return pair.b.double() @ pair.a.double()


def real_error(fit: Fit, delta: torch.Tensor) -> float:
    return float((delta - product(fit.pair)).norm() / delta.norm())


@settings(deadline=None)
@given(SIZES, SIZES, SIZES, st.integers(1, 12), st.integers(0, 99))
def test_factors_are_cut_as_their_product_would_be(
    rank: int, inputs: int, outputs: int, wanted: int, seed: int
) -> None:
    pair = pair_of(rank, inputs, outputs, seed)
    small, whole = fit_factors(pair, Limit(rank=wanted)), fit_weight(product(pair), Limit(wanted))
    # float32 pairs; products of at most 12 normal numbers
    torch.testing.assert_close(product(small.pair), product(whole.pair), atol=1e-4, rtol=0)
    assert small.error == pytest.approx(whole.error, abs=1e-6)


@settings(deadline=None)
@given(SIZES, SIZES, SIZES, st.integers(1, 12), st.integers(0, 99))
def test_a_rank_gives_the_best_pair_and_the_error_it_makes(
    rank: int, inputs: int, outputs: int, wanted: int, seed: int
) -> None:
    pair = pair_of(rank, inputs, outputs, seed)
    fit = fit_factors(pair, Limit(rank=wanted))
    values = torch.linalg.svdvals(product(pair))
    best = values[wanted:].norm() / values.norm()  # Eckart and Young
    assert fit.rank == min(wanted, rank, inputs, outputs) or fit.pair is pair
    assert fit.rank <= wanted
    assert fit.error == pytest.approx(float(best), abs=1e-6)
    assert real_error(fit, product(pair)) == pytest.approx(fit.error, abs=1e-5)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (7, 7)])
def test_without_a_limit_it_is_the_change_itself(shape: tuple[int, int]) -> None:
    delta = torch.randn(shape)
    fit = fit_weight(delta, Limit())
    assert (fit.pair.b @ fit.pair.a).equal(delta)
    assert (fit.rank, fit.error) == (min(shape), 0.0)


def test_a_change_that_is_nearly_cancelled_out_is_no_rounding() -> None:
    pair = pair_of(4, 12, 10)
    less = Factors(torch.cat([pair.a, pair.a]), torch.cat([pair.b, -0.9999 * pair.b], dim=1))
    small, whole = fit_factors(less, Limit(rank=2)), fit_factors(pair, Limit(rank=2))
    assert small.error == pytest.approx(whole.error, rel=1e-3) != 0


@settings(deadline=None)
@given(st.integers(2, 12), st.floats(0.01, 0.99), st.integers(0, 99))
def test_an_error_gives_the_least_rank_that_keeps_it(size: int, error: float, seed: int) -> None:
    delta = torch.randn(size, size + 3, generator=torch.Generator().manual_seed(seed)).double()
    fit = fit_weight(delta, Limit(error=error))
    assert fit.error <= error
    assert real_error(fit, delta) <= error + 1e-5
    if fit.rank:
        assert fit_weight(delta, Limit(rank=fit.rank - 1)).error > error


def test_nothing_is_touched_without_a_limit_or_within_it() -> None:
    pair = pair_of(4, 8, 8)
    assert fit_factors(pair, Limit()).pair is pair
    assert fit_factors(pair, Limit(rank=4)).pair is pair
    assert fit_factors(pair, Limit(rank=9)).pair is pair
    assert fit_factors(pair, Limit(rank=3)).rank == 3


def test_what_is_not_cut_still_counts_in_the_whole() -> None:
    pair = pair_of(4, 8, 8)
    norm = float(product(pair).square().sum())
    for limit in (Limit(rank=9), Limit(rank=2), Limit(error=1e-9)):
        assert fit_factors(pair, limit).total == pytest.approx(norm)


def test_no_change_has_no_rank_and_no_error() -> None:
    nothing = Factors(torch.randn(4, 8), torch.zeros(8, 4))
    for fit in (
        fit_factors(nothing, Limit(error=0.1)),
        fit_weight(torch.zeros(8, 8), Limit(error=0.1)),
    ):
        assert (fit.rank, fit.error) == (0, 0.0)
        assert fit.pair.a.shape == (0, 8)


@pytest.mark.parametrize("limit", [Limit(rank=9), Limit(rank=9, error=1e-9)])
def test_no_rank_is_spent_on_what_is_but_rounding(limit: Limit) -> None:
    delta = product(pair_of(3, 60, 40)).float()
    found = fit_weight(delta, limit)
    assert (found.rank, found.error) == (3, 0.0)
    assert real_error(found, delta) <= 1e-6
    beside = 1e-4 * torch.randn(40, 60)
    assert fit_weight(delta + beside, limit).rank == 9
    assert fit_weight(delta + beside, limit, float(beside.norm())).rank == 3


def test_both_sides_share_the_values() -> None:
    """Halves of one size keep their precision in 16 bits, where servers put them."""
    fit = fit_weight(1e6 * torch.eye(4), Limit(rank=2))
    assert fit.pair.a.norm() == pytest.approx(float(fit.pair.b.norm()))


def test_an_error_is_kept_where_a_rank_is_wide_enough() -> None:
    values = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    assert [Limit(error=error).kept(values) for error in (0.2, 0.3, 0.59, 0.6)] == [3, 2, 2, 1]
    assert Limit(rank=1).kept(values) == 1
    assert Limit().kept(values) == 3
