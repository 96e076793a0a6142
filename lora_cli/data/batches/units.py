"""What a batch is made of: units, each one row or a pack of rows that share a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from lora_cli.data.batches.mixing import (
    Part,
    counts_by_share,
    shares_by_temperature,
    shares_by_weight,
)
from lora_cli.data.batches.packing import Pack, packs_of
from lora_cli.errors import PlanError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Mixing:
    """How much of an epoch each source makes up; neither: all of each, once."""

    weights: tuple[float, ...] = ()
    """One a source."""
    temperature: float | None = None

    def __bool__(self) -> bool:
        """Return whether an epoch is anything else than every row once."""
        return bool(self.weights) or self.temperature is not None

    def shares(self, counts: Sequence[int]) -> list[float]:
        """Return each source's share of an epoch, from how many units it has."""
        if self.temperature is not None:
            return shares_by_temperature(counts, self.temperature)
        return shares_by_weight(self.weights)


ALL_ONCE = Mixing()


@dataclass(frozen=True, eq=False)
class Units:
    """The units of a data set; those of one source stand together where sources are mixed."""

    tokens: NDArray[np.int64]
    """Of each unit."""
    packs: tuple[Pack, ...] | None = None
    """The rows of each unit; None: unit i is row i."""
    parts: tuple[Part, ...] = ()
    """What an epoch takes of each source; empty: every unit once."""

    @property
    def per_epoch(self) -> int:
        """Return how many units an epoch has."""
        return sum(part.per_epoch for part in self.parts) if self.parts else len(self.tokens)

    @property
    def tokens_per_epoch(self) -> float:
        """Return the tokens of an epoch, on average where it does not take all units."""
        if not self.parts:
            return float(self.tokens.sum())
        means = (self.tokens[part.first : part.first + part.count].mean() for part in self.parts)
        return sum(
            float(mean) * part.per_epoch for mean, part in zip(means, self.parts, strict=True)
        )

    def rows(self, unit: int) -> Pack:
        """Return the rows of a unit."""
        return (unit,) if self.packs is None else self.packs[unit]

    def of_epoch(self, seed: int, epoch: int) -> list[int]:
        """Return the units of an epoch, by source and not shuffled among each other."""
        if not self.parts:
            return list(range(len(self.tokens)))
        return [unit for part in self.parts for unit in part.units_of_epoch(seed, epoch)]


def units_of(
    lengths: NDArray[np.int32],
    rows_of_sources: Sequence[int],
    *,
    pack_to: int | None = None,
    mixing: Mixing = ALL_ONCE,
) -> Units:
    """Return the units of rows of `lengths`, which stand in the order of their sources.

    With `pack_to`, rows are packed into so many tokens; each source's by themselves where they
    are mixed, so that a pack is of one source.

    Raises:
        PlanError: a source that is to be mixed in has no rows.
    """
    if mixing and not all(rows_of_sources):
        message = f"no row is left to train on in `dataset[{rows_of_sources.index(0)}]`"
        raise PlanError(message, hint="leave it out, or take a smaller `evaluation.split`")
    counts = list(rows_of_sources) if mixing else [lengths.size]
    tokens, packs = lengths.astype(np.int64), None
    if pack_to is not None:
        by_source = [_packs(lengths, *borders, pack_to) for borders in _borders(counts)]
        counts = [len(packs) for packs in by_source]
        packs = tuple(pack for packs in by_source for pack in packs)
        tokens = np.array([lengths[list(pack)].sum() for pack in packs], dtype=np.int64)
    return Units(tokens, packs, _parts(counts, mixing) if mixing else ())


def _packs(lengths: NDArray[np.int32], first: int, end: int, pack_to: int) -> list[Pack]:
    packs = packs_of(lengths[first:end], pack_to)
    return [tuple(first + row for row in pack) for pack in packs]


def _parts(counts: Sequence[int], mixing: Mixing) -> tuple[Part, ...]:
    taken = counts_by_share(mixing.shares(counts), sum(counts))
    firsts = [first for first, _ in _borders(counts)]
    return tuple(Part(*each) for each in zip(firsts, counts, taken, strict=True))


def _borders(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Return where each of several runs begins and ends."""
    ends = list(accumulate(counts))
    return list(zip([0, *ends[:-1]], ends, strict=True))
