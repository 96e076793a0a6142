"""Packs: every row in one, none too long, and hardly any space left."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.batches.packing import packs_of

LENGTHS = st.lists(st.integers(1, 40), max_size=80)


def packed(lengths: list[int], max_length: int) -> list[tuple[int, ...]]:
    return packs_of(np.array(lengths, dtype=np.int32), max_length)


@given(lengths=LENGTHS, spare=st.integers(0, 60))
def test_no_row_is_lost_or_twice_and_no_pack_is_too_long(lengths: list[int], spare: int) -> None:
    max_length = max(lengths, default=1) + spare
    packs = packed(lengths, max_length)
    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    assert all(0 < sum(lengths[row] for row in pack) <= max_length for pack in packs)


@given(lengths=LENGTHS, spare=st.integers(0, 60))
def test_a_pack_takes_what_fills_it_else_the_longest_that_fits(
    lengths: list[int], spare: int
) -> None:
    """Against the plain slow way of saying it."""
    max_length = max(lengths, default=1) + spare
    left, expected = sorted(lengths, reverse=True), []
    while left:
        pack = [left.pop(0)]
        while taken := best(left, max_length - sum(pack)):
            for length in taken:
                left.remove(length)
            pack += taken
        expected.append(pack)
    found = [[lengths[row] for row in pack] for pack in packed(lengths, max_length)]
    assert found == expected


def best(left: list[int], space: int) -> list[int]:
    fitting = [length for length in left if length <= space]
    pairs = [sorted(pair, reverse=True) for pair in combinations(fitting, 2) if sum(pair) == space]
    if space in fitting or not pairs:
        return fitting[:1]
    return max(pairs)


@given(lengths=LENGTHS)
def test_no_two_packs_would_fit_into_one(lengths: list[int]) -> None:
    packs = packed(lengths, 40)
    sizes = sorted(sum(lengths[row] for row in pack) for pack in packs)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > 40
    assert len(packs) >= math.ceil(sum(lengths) / 40)


def test_packs_are_the_same_in_every_version() -> None:
    """A run that is resumed years later goes on where it was: these figures never change."""
    assert packed([5, 9, 2, 7, 3, 3, 1], 10) == [(1, 6), (3, 4), (0, 5, 2)]


@pytest.mark.parametrize(
    ("median", "spread", "longest"), [(204, 0.35, 570), (66, 0.2, 111), (109, 0.7, 1024)]
)
def test_hardly_any_space_is_left(median: int, spread: float, longest: int) -> None:
    """Lengths as those of GSM8K, of SST-2 with a prompt, and of mixed conversations."""
    drawn = np.random.default_rng(0).lognormal(np.log(median), spread, 7000)
    lengths = np.clip(drawn, median // 2, longest).astype(np.int32)
    packs = packs_of(lengths, 1024)
    assert lengths.sum() / (len(packs) * 1024) > 0.985


def test_a_row_that_no_pack_holds_was_not_cut() -> None:
    with pytest.raises(AssertionError, match="rows are cut"):
        packed([4, 11], 10)
