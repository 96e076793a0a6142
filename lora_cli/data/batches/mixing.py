"""How much of each source an epoch takes, where a recipe mixes several.

A source is walked through pass by pass, each pass in an order of its own; an epoch goes on where
the one before it stopped. So a source that is cut down shows its next units in every epoch, and the
times that two units of a source have been seen differ by one at most.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One source's units, `count` of them from `first` on, and how many an epoch takes."""

    first: int
    count: int
    per_epoch: int

    def units_of_epoch(self, seed: int, epoch: int) -> list[int]:
        """Return the units that an epoch takes: a pure function of seed and epoch."""
        begin = epoch * self.per_epoch
        end = begin + self.per_epoch
        passes = range(begin // self.count, (end - 1) // self.count + 1)
        walked = [unit for number in passes for unit in self._walk(seed, number)]
        skipped = begin - passes.start * self.count
        return walked[skipped : skipped + self.per_epoch]

    def _walk(self, seed: int, number: int) -> list[int]:
        order = list(range(self.first, self.first + self.count))
        random.Random(f"{seed}:{self.first}:{number}").shuffle(order)  # noqa: S311
        return order


def shares_by_temperature(counts: Sequence[int], temperature: float) -> list[float]:
    """Return each source's share of an epoch: p_i ∝ n_i^(1/T).

    T = 1 takes every unit once; the higher T, the more alike the shares (Arivazhagan et al.,
    Massively multilingual neural machine translation in the wild, 2019).
    """
    largest = max(counts)
    return _normalised([(count / largest) ** (1 / temperature) for count in counts])


def shares_by_weight(weights: Sequence[float]) -> list[float]:
    """Return each source's share of an epoch: its weight over the sum of all."""
    return _normalised(weights)


def _normalised(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [weight / total for weight in weights]


def counts_by_share(shares: Sequence[float], total: int) -> list[int]:
    """Return whole numbers in the proportion of `shares` that add up to `total`.

    The largest remainders are rounded up. None is 0: a source that is named is seen.
    """
    exact = [share * total for share in shares]
    counts = [int(each) for each in exact]
    largest_first = sorted(range(len(shares)), key=lambda index: counts[index] - exact[index])
    for index in largest_first[: total - sum(counts)]:
        counts[index] += 1
    return [max(1, count) for count in counts]
