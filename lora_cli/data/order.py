"""Which rows each step trains on: a pure function of (seed, step), so that nothing is replayed.

Every row is seen once an epoch. The same order comes out for any number of processes, and a run
that resumes at a step asks for that step: there is no position to lose.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class StepRows:
    """The rows of one optimizer step: one tuple of row indices a micro batch."""

    epoch: int
    micro_batches: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class RowOrder:
    """The order of `rows` rows in optimizer steps of `batch_size` × `accumulation` × processes."""

    rows: int
    batch_size: int
    accumulation: int
    processes: int
    seed: int

    @property
    def rows_per_step(self) -> int:
        """Return how many rows one optimizer step uses, over all processes."""
        return self.batch_size * self.accumulation * self.processes

    @property
    def steps_per_epoch(self) -> int:
        """Return how many steps one pass takes; the last may be smaller."""
        return math.ceil(self.rows / self.rows_per_step)

    def step(self, step: int, rank: int = 0) -> StepRows:
        """Return the rows of step `step` (from 1) for process `rank`.

        The processes take the step's rows in turn and all get equally many micro batches; in an
        epoch's last step one may be empty.
        """
        rows = self.rows_of_step(step)
        mine = rows[rank :: self.processes]
        count = math.ceil(len(rows) / (self.batch_size * self.processes))
        starts = range(0, count * self.batch_size, self.batch_size)
        return StepRows(
            epoch=(step - 1) // self.steps_per_epoch,
            micro_batches=tuple(mine[start : start + self.batch_size] for start in starts),
        )

    def rows_of_step(self, step: int) -> tuple[int, ...]:
        """Return the rows of step `step` (from 1) over all processes."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        first = position * self.rows_per_step
        return _shuffled(self.rows, self.seed, epoch)[first : first + self.rows_per_step]


@lru_cache(maxsize=2)
def _shuffled(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(rows))
    random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311  # an order, not a secret
    return tuple(order)
