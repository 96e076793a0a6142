"""Mixed sources: an epoch's shares, and which units it takes of each."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.batches.mixing import (
    Part,
    counts_by_share,
    shares_by_temperature,
    shares_by_weight,
)

COUNTS = st.lists(st.integers(1, 1000), min_size=1, max_size=6)
PARTS = st.builds(
    Part, first=st.integers(0, 9), count=st.integers(1, 12), per_epoch=st.integers(1, 40)
)


@given(counts=COUNTS)
def test_at_temperature_1_every_source_has_what_it_has(counts: list[int]) -> None:
    assert counts_by_share(shares_by_temperature(counts, 1.0), sum(counts)) == counts


@given(counts=COUNTS, temperature=st.floats(1, 50))
def test_a_higher_temperature_makes_shares_more_alike(
    counts: list[int], temperature: float
) -> None:
    shares, cooler = (shares_by_temperature(counts, t) for t in (temperature * 2, temperature))
    assert sum(shares) == pytest.approx(1)
    assert max(shares) - min(shares) <= max(cooler) - min(cooler) + 1e-12


def test_a_share_is_as_the_root_of_a_count() -> None:
    assert shares_by_temperature([900, 100], 2.0) == pytest.approx([0.75, 0.25])
    assert shares_by_weight([3, 1]) == [0.75, 0.25]


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), total=st.integers(0, 500))
def test_counts_add_up_and_are_as_near_as_whole_numbers_can(
    weights: list[float], total: int
) -> None:
    shares = shares_by_weight(weights)
    counts = counts_by_share(shares, total)
    assert all(abs(c - s * total) < 1 + 1e-9 for c, s in zip(counts, shares, strict=True))
    assert min(counts) >= 1
    raised = sum(share * total < 1 for share in shares)
    assert total <= sum(counts) <= total + raised


@given(part=PARTS, seed=st.integers(0, 99), epochs=st.integers(1, 6))
def test_the_times_that_units_were_seen_differ_by_one_at_most(
    part: Part, seed: int, epochs: int
) -> None:
    seen = Counter[int]()
    for epoch in range(epochs):
        units = part.units_of_epoch(seed, epoch)
        assert len(units) == part.per_epoch
        seen.update(units)
    all_units = range(part.first, part.first + part.count)
    assert set(seen) <= set(all_units)
    times = [seen[unit] for unit in all_units]
    assert max(times) - min(times) <= 1


def test_an_epoch_is_asked_for_alone() -> None:
    part = Part(first=2, count=7, per_epoch=5)
    in_turn = [part.units_of_epoch(1, epoch) for epoch in range(6)]
    assert [part.units_of_epoch(1, epoch) for epoch in reversed(range(6))] == in_turn[::-1]
    assert part.units_of_epoch(2, 0) != in_turn[0]


def test_what_is_taken_is_the_same_in_every_version() -> None:
    """A run that is resumed years later goes on where it was: these figures never change."""
    part = Part(first=3, count=4, per_epoch=3)
    assert [part.units_of_epoch(7, epoch) for epoch in range(3)] == [
        [3, 6, 5],
        [4, 3, 5],
        [6, 4, 3],
    ]
