"""A trace's peak, from the events that make it."""

from __future__ import annotations

from lora_cli.memory.trace import Storage, Trace


def storage(size: int, name: str) -> Storage:
    return Storage(size, "activations", name, "forward")


TRACE = Trace(
    storages=(storage(10, "a"), storage(5, "b"), storage(7, "c"), storage(5, "d")),
    events=(0, 1, ~1, 2, 3, ~0, ~3),
    phases=((0, "loading"), (1, "forward"), (4, "backward")),
)


def test_the_peak_is_the_most_that_is_alive_at_once() -> None:
    assert TRACE.peak_bytes() == 22
    assert [each.name for each in TRACE.live_at_peak()] == ["a", "c", "d"]
    assert TRACE.peak_phase() == "backward"


def test_the_first_of_two_equal_peaks_counts() -> None:
    twice = Trace(TRACE.storages, (0, ~0, 0), ((0, "loading"), (2, "forward")))
    assert twice.peak_phase() == "loading"


def test_a_trace_without_events_has_no_peak() -> None:
    empty = Trace((), (), ((0, "loading"),))
    assert empty.peak_bytes() == 0
    assert empty.live_at_peak() == ()
