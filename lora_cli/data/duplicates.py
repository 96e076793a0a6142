"""Rows that say the same: within the training rows, or in training and evaluation.

Exact ones are told by the hash that the store holds of each row's tokens. Near ones share most of
their runs of five tokens: candidates by MinHash (Broder, On the resemblance and containment of
documents, 1997) in bands, then the share itself. Runs that half of the rows have, such as those of
a chat template or a system prompt, say nothing of a row and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lora_cli.data.rows import Row, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

RUN = 5
"""Tokens whose order counts as one feature of a row."""
BANDS, ROWS_OF_BAND = 16, 4
"""Two rows that share 80 % are found with probability 0.9998, those that share 30 % with 0.12."""
COMMON_SAMPLE = 200
"""Rows among which a run is common if more than half of them have it."""
MOST_ROWS = 100_000
"""Rows compared, spread evenly over all: about 200 bytes and less than a millisecond each."""
SHOWN = 100
_MULTIPLIERS = np.random.default_rng(5).integers(1, 2**63, RUN + BANDS * ROWS_OF_BAND, np.uint64)
_FACTORS, _SALTS = _MULTIPLIERS[:RUN] | np.uint64(1), _MULTIPLIERS[RUN:] | np.uint64(1)


@dataclass(frozen=True, slots=True)
class Alike:
    """Two rows, each as (file, line), and the share of their features that both have."""

    first: tuple[str, int]
    second: tuple[str, int]
    similarity: float


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Of `compared` rows, `count` are like an earlier one, or like one of the other rows."""

    count: int
    compared: int
    shown: tuple[Alike, ...]


def exact_duplicates(rows: Rows, other: Rows | None = None) -> Duplicates:
    """Return the rows whose tokens are those of an earlier row, or of a row of `other`."""
    content, known = rows.figures("content"), (rows if other is None else other).figures("content")
    values, first = np.unique(known, return_index=True)
    found = np.minimum(np.searchsorted(values, content), len(values) - 1)
    twins = first[found]
    alike = values[found] == content
    if other is None:
        alike &= twins != np.arange(len(rows))
    second = np.flatnonzero(alike)
    pairs = zip(twins[second[:SHOWN]].tolist(), second[:SHOWN].tolist(), strict=True)
    others = rows if other is None else other
    shown = tuple(_alike(others[one], rows[two], 1.0) for one, two in pairs)
    return Duplicates(len(second), len(rows), shown)


def near_duplicates(
    rows: Rows, other: Rows | None = None, *, threshold: float = 0.8, most_rows: int = MOST_ROWS
) -> Duplicates:
    """Return the rows that share `threshold` of their features with an earlier row, or `other`'s.

    Exact duplicates are among them. A row is compared with few others of its likeness, not with
    all: what is found is there, a little more may be.
    """
    mine = _spread(rows, most_rows)
    theirs = mine if other is None else _spread(other, most_rows)
    common = _common_runs(theirs)
    keys = _band_keys(mine, common)
    known = keys if other is None else _band_keys(theirs, common)
    best: dict[int, tuple[int, float]] = {}
    for first, second in _candidates(known, keys, within=other is None):
        if best.get(second, (0, 0.0))[1] < 1.0:
            share = _share(_runs(theirs, first, common), _runs(mine, second, common))
            if share >= max(threshold, best.get(second, (0, 0.0))[1]):
                best[second] = first, share
    listed = sorted(best.items())[:SHOWN]
    shown = tuple(_alike(theirs[one], mine[two], share) for two, (one, share) in listed)
    return Duplicates(len(best), len(mine), shown)


def _alike(one: Row, two: Row, share: float) -> Alike:
    return Alike((one.file, one.line), (two.file, two.line), share)


def _spread(rows: Rows, most: int) -> Rows:
    if len(rows) <= most:
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, most).astype(np.int64))


def _runs(rows: Rows, index: int, common: Hashes) -> Hashes:
    """Return a hash of each run of RUN tokens of a row, each once, less the common ones."""
    ids = rows.tokens(index).input_ids.astype(np.uint64) + np.uint64(1)
    if len(ids) < RUN:
        ids = np.pad(ids, (0, RUN - len(ids)))
    windows = np.lib.stride_tricks.sliding_window_view(ids, RUN)
    mixed = (windows * _FACTORS).sum(axis=1, dtype=np.uint64)
    mixed ^= mixed >> np.uint64(29)
    runs = np.unique(mixed * _FACTORS[0])
    return runs[~np.isin(runs, common)] if len(common) else runs


def _common_runs(rows: Rows) -> Hashes:
    different = rows.take(np.sort(np.unique(rows.figures("content"), return_index=True)[1]))
    sample = _spread(different, COMMON_SAMPLE)
    none = np.empty(0, np.uint64)
    if len(sample) < COMMON_SAMPLE // 10:
        return none
    runs = np.concatenate([_runs(sample, index, none) for index in range(len(sample))])
    values, counts = np.unique(runs, return_counts=True)
    return values[counts > len(sample) / 2]


def _band_keys(rows: Rows, common: Hashes) -> Hashes:
    """Return (rows, BANDS): rows that share a key of a band are candidates; 0 is no key."""
    keys = np.zeros((len(rows), BANDS), np.uint64)
    for index in range(len(rows)):
        runs = _runs(rows, index, common)
        if len(runs):
            lowest = ((runs[:, None] * _SALTS) >> np.uint64(32)).min(axis=0)
            bands = lowest.reshape(BANDS, ROWS_OF_BAND) * _SALTS[:ROWS_OF_BAND]
            keys[index] = bands.sum(axis=1, dtype=np.uint64) | np.uint64(1)
    return keys


def _candidates(known: Hashes, keys: Hashes, *, within: bool) -> Iterator[tuple[int, int]]:
    """Give pairs (known, row) that share a key: each row with the first that has it, once."""
    told: set[tuple[int, int]] = set()
    for band in range(BANDS):
        values, first = np.unique(known[:, band], return_index=True)
        found = np.minimum(np.searchsorted(values, keys[:, band]), len(values) - 1)
        same = (values[found] == keys[:, band]) & (keys[:, band] != 0)
        if within:
            same &= first[found] != np.arange(len(keys))
        second = np.flatnonzero(same)
        pairs = set(zip(first[found[second]].tolist(), second.tolist(), strict=True)) - told
        told |= pairs
        yield from sorted(pairs)


def _share(one: Hashes, two: Hashes) -> float:
    """Return the Jaccard similarity of two sets."""
    both = len(np.intersect1d(one, two, assume_unique=True))
    return both / max(1, len(one) + len(two) - both)
