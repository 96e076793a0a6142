"""Which rows each step trains on: a pure function of (seed, step), so that nothing is replayed.

The same order comes out for any number of processes, and a run that resumes at a step asks for
that step: there is no position to lose. Unless sources are mixed, every row is seen once an epoch.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lora_cli.data.batches.units import Units

STEPS_SORTED_TOGETHER = 50
"""Rows of so many steps are sorted by length: enough for rows of like length in every step, few
enough for an order that is still random."""


@dataclass(frozen=True, slots=True)
class StepRows:
    """The rows of one optimizer step: one tuple of row indices a micro batch."""

    epoch: int
    micro_batches: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class BatchOrder:
    """The order of units in optimizer steps of `batch_size` × `accumulation` × processes."""

    units: Units
    batch_size: int
    accumulation: int
    processes: int
    seed: int
    by_length: bool = False
    """Whether a step's units are of like length."""

    @property
    def units_per_step(self) -> int:
        """Return how many units one optimizer step uses, over all processes."""
        return self.batch_size * self.accumulation * self.processes

    @property
    def steps_per_epoch(self) -> int:
        """Return how many steps one pass takes; the last may be smaller."""
        return math.ceil(self.units.per_epoch / self.units_per_step)

    def step(self, step: int, rank: int = 0) -> StepRows:
        """Return the rows of step `step` (from 1) for process `rank`.

        The processes take the step's units in turn and all get equally many micro batches; in an
        epoch's last step one may be empty.
        """
        units = self.units_of_step(step)
        mine = units[rank :: self.processes]
        count = math.ceil(len(units) / (self.batch_size * self.processes))
        starts = range(0, count * self.batch_size, self.batch_size)
        batches = (mine[start : start + self.batch_size] for start in starts)
        return StepRows(
            epoch=(step - 1) // self.steps_per_epoch,
            micro_batches=tuple(self._rows(batch) for batch in batches),
        )

    def rows_of_step(self, step: int) -> tuple[int, ...]:
        """Return the rows of step `step` (from 1) over all processes."""
        return self._rows(self.units_of_step(step))

    def units_of_step(self, step: int) -> tuple[int, ...]:
        """Return the units of step `step` (from 1) over all processes."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        first = position * self.units_per_step
        step_size = self.units_per_step if self.by_length else None
        order = _order(self.units, self.seed, epoch, step_size)
        return order[first : first + self.units_per_step]

    def _rows(self, units: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(row for unit in units for row in self.units.rows(unit))


@lru_cache(maxsize=2)
def _order(units: Units, seed: int, epoch: int, step_size: int | None) -> tuple[int, ...]:
    """Return an epoch's units; with `step_size`, each step's are of like length."""
    chance = random.Random(f"{seed}:{epoch}")  # noqa: S311  # an order, not a secret
    order = units.of_epoch(seed, epoch)
    chance.shuffle(order)
    return tuple(order if step_size is None else _by_length(units, order, step_size, chance))


def _by_length(units: Units, order: list[int], step_size: int, chance: random.Random) -> list[int]:
    """Return steps of units of like length, in random order; the last step keeps what is left.

    The longest stand first in a step, so that its micro batches and processes are alike too.
    """
    whole = len(order) - len(order) % step_size
    sorted_together = STEPS_SORTED_TOGETHER * step_size
    steps = []
    for start in range(0, whole, sorted_together):
        chunk = _longest_first(units, order[start : min(start + sorted_together, whole)])
        steps += [chunk[at : at + step_size] for at in range(0, len(chunk), step_size)]
    chance.shuffle(steps)
    return [unit for step in [*steps, _longest_first(units, order[whole:])] for unit in step]


def _longest_first(units: Units, some: list[int]) -> list[int]:
    return [some[i] for i in np.argsort(-units.tokens[some], kind="stable")]
