"""How long rows are: how many there are of each length, and how many exceed the limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BINS = 16


@dataclass(frozen=True, slots=True)
class Bin:
    """The rows of `first` to `last` tokens, both included."""

    first: int
    last: int
    rows: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Rows by length before they were cut; those over the limit are in one bin, the last."""

    limit: int
    bins: tuple[Bin, ...]


def lengths_of(lengths: NDArray[Any], limit: int) -> Lengths:
    """Return bins of equal width, a power of two, from the shortest row (there is one) on."""
    within, longest = lengths[lengths <= limit], int(lengths.max())
    bins = []
    if len(within):
        width = 1
        while (within.max() - 1) // width - (within.min() - 1) // width >= MOST_BINS:
            width *= 2
        numbers = (within - 1) // width
        first = int(numbers.min())
        bins = [
            Bin(number * width + 1, min((number + 1) * width, limit), count)
            for number, count in enumerate(np.bincount(numbers - first).tolist(), first)
        ]
    if longest > limit:
        bins.append(Bin(limit + 1, longest, len(lengths) - len(within)))
    return Lengths(limit, tuple(bins))
