"""A number of bytes that is not known exactly: from, to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """Bytes, both ends included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        assert self.low <= self.high, "an interval runs upwards"

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def widened(self, share: float) -> Interval:
        """Return it with so much less at its low end, and more at its high end."""
        return Interval(int(self.low * (1 - share)), int(self.high * (1 + share)))


def exactly(size: int) -> Interval:
    """Return the interval that holds one number."""
    return Interval(size, size)
