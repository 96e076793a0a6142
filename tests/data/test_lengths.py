"""The histogram of lengths: every row is in one bin, and those over the limit are in the last."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.lengths import MOST_BINS, Bin, lengths_of


@given(lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=60), limit=st.integers(1, 4000))
def test_every_row_is_in_the_one_bin_of_its_length(lengths: list[int], limit: int) -> None:
    bins = lengths_of(np.array(lengths), limit).bins
    within = [each for each in bins if each.first <= limit]
    assert len(within) <= MOST_BINS
    assert len(bins) - len(within) == any(length > limit for length in lengths)
    assert all(one.last + 1 == two.first for one, two in pairwise(within))
    assert all(each.last <= limit for each in within)
    for each in bins:
        assert each.rows == sum(each.first <= length <= each.last for length in lengths)
    assert sum(each.rows for each in bins) == len(lengths)


def test_bins_are_as_fine_as_there_is_room_for() -> None:
    assert lengths_of(np.array([3, 3, 5]), 8).bins == (Bin(3, 3, 2), Bin(4, 4, 0), Bin(5, 5, 1))
    assert lengths_of(np.array([1, 17, 40]), 20).bins[-3:] == (
        Bin(15, 16, 0),
        Bin(17, 18, 1),
        Bin(21, 40, 1),
    )
