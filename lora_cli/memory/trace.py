"""What one step allocates and frees, in order: the storages, and what made and ended them.

A trace knows bytes as they were asked for. It does not know an allocator: rounding, segments,
fragmentation and what a driver keeps for itself are the reader's to add.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

Category = Literal[
    "base weights",
    "quantization constants",
    "embeddings and head",
    "adapter",
    "gradients",
    "optimizer",
    "activations",
    "logits and loss",
    "temporaries",
    "buffers",
]
Phase = Literal["loading", "forward", "loss", "backward", "optimizer", "evaluation"]


@dataclass(frozen=True, slots=True)
class Storage:
    """One block of device memory."""

    size: int
    """Bytes, as asked for (not rounded)."""
    category: Category
    name: str
    """Full name of the parameter, or the module in which it was made and the operation."""
    phase: Phase
    """In which it was made."""


@dataclass(frozen=True)
class Trace:
    """The storages of a step, in the order in which they were made, and their events."""

    storages: tuple[Storage, ...]
    events: tuple[int, ...]
    """n >= 0: storage n is allocated; ~n: it is freed."""
    phases: tuple[tuple[int, Phase], ...]
    """(index of the event it begins at, phase), in order."""

    def peak_bytes(self) -> int:
        """Return the most bytes that are live at once."""
        return max(self._live(), default=0)

    def live_at_peak(self) -> tuple[Storage, ...]:
        """Return the storages that are live when the peak is first reached, oldest first."""
        live: set[int] = set()
        for event in self.events[: self._peak_event + 1]:
            if event >= 0:
                live.add(event)
            else:
                live.discard(~event)
        return tuple(self.storages[index] for index in sorted(live))

    def peak_phase(self) -> Phase:
        """Return the phase in which the peak is first reached."""
        begins = [event for event, _ in self.phases]
        return self.phases[bisect_right(begins, self._peak_event) - 1][1]

    @cached_property
    def _peak_event(self) -> int:
        """Index of the event at which the peak is first reached; -1 where nothing was allocated."""
        return max(enumerate(self._live()), key=lambda event: event[1], default=(-1, 0))[0]

    def _live(self) -> Iterator[int]:
        """Yield the live bytes after each event."""
        sizes = [storage.size for storage in self.storages]
        return accumulate(sizes[each] if each >= 0 else -sizes[~each] for each in self.events)
