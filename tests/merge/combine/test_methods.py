"""Pruning, dropping and electing signs, on ΔWs that can be worked out by hand, and as laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.merge.combine.methods import combined_change, drop_and_rescale, keep_largest
from lora_cli.merge.combine.options import CombineOptions

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
DENSITIES = st.floats(0.01, 1)


def change(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def combined(changes: list[torch.Tensor], *weights: float, **options: Any) -> torch.Tensor:
    return combined_change(dict(enumerate(changes)), weights, CombineOptions(**options), "m")


@settings(deadline=None)
@given(SHAPES, DENSITIES, st.integers(0, 99))
def test_the_largest_are_kept_as_they_are(
    shape: tuple[int, int], density: float, seed: int
) -> None:
    whole = change(shape, seed)
    pruned = keep_largest(whole, density)
    kept = pruned != 0
    assert int(kept.sum()) == int(density * whole.numel())
    assert pruned[kept].equal(whole[kept])
    if kept.any() and not kept.all():
        assert whole[kept].abs().min() >= whole[~kept].abs().max()


def test_of_equal_entries_no_more_are_kept_than_asked_for() -> None:
    assert int(keep_largest(torch.ones(4, 4), 0.25).sum()) == 4


@pytest.mark.parametrize("density", [0.2, 0.7])
def test_what_is_dropped_leaves_the_mean_as_it_was(density: float) -> None:
    dropped = drop_and_rescale(torch.ones(200, 200), density, "1:m:0")
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / density)]
    # 40,000 draws: five standard deviations
    assert float(dropped.mean()) == pytest.approx(1, abs=5 * ((1 / density - 1) / 40_000) ** 0.5)


def test_what_is_dropped_depends_on_its_place_alone() -> None:
    whole = torch.ones(20, 20)
    torch.manual_seed(3)
    first = drop_and_rescale(whole, 0.5, "1:m:0")
    torch.manual_seed(4)
    assert drop_and_rescale(whole, 0.5, "1:m:0").equal(first)
    for other in ("2:m:0", "1:n:0", "1:m:1"):
        assert not drop_and_rescale(whole, 0.5, other).equal(first)
    assert drop_and_rescale(whole, 1.0, "1:m:0").equal(whole)


LEFT = torch.tensor([[3.0, -2.0, 1.0, 0.0, 5.0]])
RIGHT = torch.tensor([[1.0, 4.0, -1.0, 2.0, -6.0]])
THIRD = torch.tensor([[-1.0, -1.0, 1.0, 0.0, 2.0]])


def test_ties_is_the_mean_of_those_that_have_the_sign_of_the_sum() -> None:
    """Sums 3, 1, 1, 2, 1: all elect +."""
    found = combined([LEFT, RIGHT, THIRD], 1, 1, 1, method="ties", density=1.0)
    assert found.tolist() == [[2.0, 4.0, 1.0, 2.0, 3.5]]


def test_ties_by_count_is_the_mean_of_those_that_have_the_sign_of_most() -> None:
    """Signs ++−, −+−, +−+, 0+0, +−+."""
    options = {"density": 1.0, "majority_sign_method": "frequency"}
    found = combined([LEFT, RIGHT, THIRD], 1, 1, 1, method="ties", **options)
    assert found.tolist() == [[2.0, -1.5, 1.0, 2.0, 3.5]]


def test_weights_come_after_the_vote() -> None:
    found = combined([LEFT, RIGHT], 10, 0.5, method="ties", density=1.0)
    # sums 4, 2, 0 (which elects +), 2, −1
    assert found.tolist() == [[15.25, 2.0, 10.0, 1.0, -3.0]]


def test_pruning_comes_before_the_vote() -> None:
    found = combined([LEFT, RIGHT], 1, 1, method="ties", density=0.4)
    # 3 and 5 are left of one, 4 and −6 of the other: only the last entry is voted on
    assert found.tolist() == [[3.0, 4.0, 0.0, 0.0, -6.0]]


@pytest.mark.parametrize("method", ["magnitude_prune", "dare_linear"])
def test_at_a_density_of_one_the_pruned_sums_are_the_sum(method: str) -> None:
    found = combined([LEFT, RIGHT], 0.5, -2, method=method, density=1.0)
    assert found.equal(0.5 * LEFT - 2 * RIGHT)


def test_magnitude_prune_adds_what_is_left() -> None:
    found = combined([LEFT, RIGHT], 1, 2, method="magnitude_prune", density=0.2)
    assert found.tolist() == [[0.0, 0.0, 0.0, 0.0, -7.0]]


def test_an_adapter_that_lacks_the_module_has_no_vote_and_no_share() -> None:
    options = CombineOptions(method="ties", density=1.0)
    assert combined_change({1: LEFT}, (5.0, 2.0), options, "m").equal(2 * LEFT)


def test_dare_drops_other_entries_of_each_adapter() -> None:
    ones = torch.ones(10, 10)
    found = combined([ones, ones], 1, 1, method="dare_linear", density=0.5, seed=4)
    assert found.unique().tolist() == [0.0, 2.0, 4.0]
    other = combined([ones, ones], 1, 1, method="dare_linear", density=0.5, seed=5)
    assert not other.equal(found)
