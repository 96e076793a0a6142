"""Pairs from a random sketch: nearly the best, and with the error that they make."""

from __future__ import annotations

import pytest
import torch

from lora_cli.merge import sketch
from lora_cli.merge.sketch import nearest_pair
from lora_cli.merge.truncate import Fit, Limit, fit_weight


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "EXACT_SIZE", 16)


def matrix(outputs: int, inputs: int, falls_off: float) -> torch.Tensor:
    """Return a matrix whose singular values are 1, 1/2ᶠ, 1/3ᶠ, …"""
    generator = torch.Generator().manual_seed(1)
    left, _ = torch.linalg.qr(torch.randn(outputs, outputs, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(inputs, inputs, generator=generator))
    size = min(outputs, inputs)
    values = torch.arange(1, size + 1).pow(-falls_off)
    return left[:, :size] * values @ right[:size]


def real_error(fit: Fit, delta: torch.Tensor) -> float:
    product = fit.pair.b.double() @ fit.pair.a.double()
    return float((delta.double() - product).norm() / delta.double().norm())


@pytest.mark.parametrize("shape", [(120, 200), (200, 120)])
@pytest.mark.parametrize("falls_off", [0.0, 0.5, 1.5])
def test_a_rank_is_nearly_as_good_as_the_best_and_says_how_good(
    shape: tuple[int, int], falls_off: float
) -> None:
    delta = matrix(*shape, falls_off)
    fit, best = nearest_pair(delta.clone(), Limit(rank=8)), fit_weight(delta, Limit(rank=8))
    assert (fit.rank, fit.pair.a.shape, fit.pair.b.shape) == (8, (8, shape[1]), (shape[0], 8))
    assert best.error - 1e-6 <= fit.error <= 1.01 * best.error
    assert fit.error == pytest.approx(real_error(fit, delta), rel=1e-5)
    assert fit.total == pytest.approx(float(delta.double().square().sum()))


def test_a_change_of_small_rank_is_found_whole() -> None:
    torch.manual_seed(0)
    delta = torch.randn(150, 5) @ torch.randn(5, 90)
    fit = nearest_pair(delta.clone(), Limit(rank=5))
    assert fit.error <= 1e-6
    assert real_error(fit, delta) <= 1e-6
    assert nearest_pair(delta.clone(), Limit(rank=4)).error > 0.1


@pytest.mark.parametrize("limit", [Limit(rank=9), Limit(rank=9, error=1e-9)])
def test_no_rank_is_spent_on_rounding_or_noise(limit: Limit) -> None:
    torch.manual_seed(0)
    delta = torch.randn(150, 5) @ torch.randn(5, 90)
    assert nearest_pair(delta.clone(), Limit(rank=9)).rank == 5
    noise = 1e-4 * torch.randn(150, 90)
    assert nearest_pair(delta + noise, limit).rank == 9
    found = nearest_pair(delta + noise, limit, 1.01 * float(noise.norm()))
    assert (found.rank, found.error) == (5, 0.0)
    assert real_error(found, delta) <= 1e-4


def test_what_the_sketch_leaves_out_is_no_noise_for_its_own_part() -> None:
    """A flat change of many values, of which a sketch sees few: together they are above it."""
    delta = matrix(120, 200, 0.0)
    for share, rank in ((0.5, 8), (1.01, 0)):
        noise = share * float(delta.norm())
        fit, best = nearest_pair(delta.clone(), Limit(8), noise), fit_weight(delta, Limit(8), noise)
        assert fit.rank == best.rank == rank
    whole = nearest_pair(delta.clone(), Limit(8), 0.5 * float(delta.norm()))
    assert whole.error == pytest.approx(real_error(whole, delta), rel=1e-5)


@pytest.mark.parametrize("error", [0.9, 0.5, 0.3])
def test_an_error_within_the_rank_takes_no_more_than_it_needs(error: float) -> None:
    delta = matrix(120, 200, 1.0)
    fit, best = nearest_pair(delta.clone(), Limit(20, error)), fit_weight(delta, Limit(20, error))
    assert 1 <= fit.rank == best.rank < 20
    assert fit.error <= error


def test_a_rank_caps_what_an_error_would_take() -> None:
    delta = matrix(120, 200, 0.0)
    assert nearest_pair(delta.clone(), Limit(8, 0.1)).rank == 8


def test_no_change_has_no_rank_where_an_error_is_asked_for() -> None:
    fit = nearest_pair(torch.zeros(100, 100), Limit(8, 0.1))
    assert (fit.rank, fit.error) == (0, 0.0)


@pytest.mark.parametrize(
    ("shape", "limit"),
    [((16, 90), Limit(rank=2)), ((60, 60), Limit(error=0.5)), ((60, 60), Limit(rank=20))],
)
def test_small_matrices_wide_ranks_and_bare_errors_are_exact(
    shape: tuple[int, int], limit: Limit
) -> None:
    delta = matrix(*shape, 0.5)
    fit, best = nearest_pair(delta.clone(), limit), fit_weight(delta, limit)
    assert fit.pair.a.equal(best.pair.a)
    assert fit.pair.b.equal(best.pair.b)
    assert fit.error == best.error


def test_the_same_change_gives_the_same_pair() -> None:
    delta = matrix(120, 200, 0.2)
    torch.manual_seed(1)
    first = nearest_pair(delta.clone(), Limit(rank=8))
    torch.manual_seed(2)
    again = nearest_pair(delta.clone(), Limit(rank=8))
    assert first.pair.a.equal(again.pair.a)
    assert first.pair.b.equal(again.pair.b)
