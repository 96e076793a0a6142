"""Intervals of bytes."""

from __future__ import annotations

import pytest

from lora_cli.memory.interval import Interval, exactly


def test_intervals_add_at_both_ends() -> None:
    assert Interval(1, 2) + Interval(10, 30) == Interval(11, 32)
    assert exactly(5) + exactly(6) == exactly(11)


def test_a_share_widens_both_ends() -> None:
    assert exactly(1000).widened(0.05) == Interval(950, 1050)
    assert exactly(1000).widened(0) == exactly(1000)


def test_an_interval_runs_upwards() -> None:
    with pytest.raises(AssertionError):
        Interval(2, 1)
