"""The allocator's model: traces whose figures follow from torch's constants, and laws."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.memory.allocator import (
    Block,
    CachingAllocator,
    OutOfMemoryError,
    minimum_capacity,
    replay,
    rounded,
    segment_size,
)
from lora_cli.memory.trace import Trace
from tests.memory.traces import MIB, trace_of


@pytest.mark.parametrize(
    ("asked", "taken"), [(1, 512), (512, 512), (513, 1024), (MIB, MIB), (MIB + 1, MIB + 512)]
)
def test_requests_are_rounded_to_512_bytes(asked: int, taken: int) -> None:
    assert rounded(asked) == taken


@pytest.mark.parametrize(
    ("request_bytes", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 512, 12 * MIB),
        (21 * MIB, 22 * MIB),
    ],
)
def test_segments_come_in_two_sizes_and_then_their_own(request_bytes: int, segment: int) -> None:
    assert segment_size(request_bytes) == segment


def test_small_and_large_requests_share_no_segment() -> None:
    usage = replay(trace_of([600, 2 * MIB, 700, 3 * MIB]))
    assert usage.reserved == 22 * MIB  # one segment of each pool
    assert usage.allocated == 1024 + 1024 + 5 * MIB


def test_a_small_block_is_split_down_to_512_bytes_and_a_large_one_not_below_a_mebibyte() -> None:
    allocator = CachingAllocator()
    small = [allocator.allocate(MIB - 512), allocator.allocate(512)]
    assert [block.address for block in small] == [0, MIB - 512]
    whole = allocator.allocate(19 * MIB + 512)  # from 10 MiB on: a segment of 20 MiB of its own
    assert whole.size == 20 * MIB  # what is left is less than 1 MiB and stays with the block
    assert allocator.allocate(MIB + 512).size == MIB + 512


def test_the_smallest_block_that_is_large_enough_is_taken() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(size * MIB) for size in (30, 40, 50)]
    for block in blocks:
        allocator.release(block)
    assert allocator.allocate(39 * MIB) is blocks[1]
    assert allocator.reserved == 120 * MIB


def test_free_neighbours_become_one_block() -> None:
    allocator = CachingAllocator()
    parts = [allocator.allocate(5 * MIB) for _ in range(4)]  # a segment of 20 MiB, filled
    for part in (parts[0], parts[2], parts[1], parts[3]):
        allocator.release(part)
    assert allocator.allocate(9 * MIB).address == parts[0].address
    assert allocator.reserved == 20 * MIB


def test_short_of_memory_free_segments_go_back_and_the_request_is_tried_again() -> None:
    # 30 MiB are freed before 31 MiB are wanted, which they have no room for
    trace = trace_of([30 * MIB, 31 * MIB], [0, ~0, 1])
    assert replay(trace).reserved == 62 * MIB
    assert replay(trace, capacity=32 * MIB).reserved == 32 * MIB
    assert minimum_capacity(trace) == 32 * MIB
    with pytest.raises(OutOfMemoryError):
        replay(trace, capacity=32 * MIB - 1)


def test_a_segment_that_is_in_use_in_part_does_not_go_back() -> None:
    # 19 MiB of the first segment are free, and held by the 1 MiB + 512 bytes beside them
    trace = trace_of([2 * MIB, 2 * MIB, 30 * MIB], [0, 1, ~0, 2])
    assert minimum_capacity(trace) == 50 * MIB


def test_short_rows_before_long_ones_reserve_more_than_the_other_way_round() -> None:
    def steps(*sizes: int) -> Trace:
        events = [event for index in range(len(sizes)) for event in (index, ~index)]
        return trace_of([size * MIB for size in sizes], events)

    assert replay(steps(100, 200, 300)).reserved == 600 * MIB
    assert replay(steps(300, 200, 100)).reserved == 300 * MIB
    assert minimum_capacity(steps(100, 200, 300)) == 300 * MIB


def test_a_workspace_is_there_throughout() -> None:
    trace = trace_of([12 * MIB], [0, ~0])
    assert minimum_capacity(trace, workspace=16 * MIB) == 28 * MIB


def test_what_has_no_bytes_takes_none() -> None:
    assert replay(trace_of([0, 512], [0, ~0, 1])).reserved == 2 * MIB


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Return storages of all sizes, freed in any order, some never."""
    size = st.one_of(
        st.integers(1, 4096), st.integers(1, 2 * MIB), st.integers(MIB, 64 * MIB), st.just(0)
    )
    sizes = [draw(st.integers(1, 64 * MIB)), *draw(st.lists(size, max_size=24))]
    events: list[int] = []
    live: list[int] = []
    for index in range(len(sizes)):
        events.append(index)
        live.append(index)
        freed = draw(st.integers(0, min(2, len(live))))
        events += [~live.pop(draw(st.integers(0, len(live) - 1))) for _ in range(freed)]
    return trace_of(sizes, events)


@given(traces())
@settings(max_examples=150, deadline=None)
def test_reserved_holds_allocated_holds_what_was_asked_for(trace: Trace) -> None:
    usage = replay(trace)
    assert trace.peak_bytes() <= usage.allocated <= usage.reserved
    assert usage.reserved % (2 * MIB) == 0


@given(traces())
@settings(max_examples=100, deadline=None)
def test_the_minimum_capacity_is_enough_and_never_more_than_what_is_reserved_freely(
    trace: Trace,
) -> None:
    usage, least = replay(trace), minimum_capacity(trace)
    assert usage.allocated <= least <= usage.reserved
    assert replay(trace, capacity=least).reserved <= least
    with pytest.raises(OutOfMemoryError):
        replay(trace, capacity=usage.allocated - 1)


@given(traces())
@settings(max_examples=100, deadline=None)
def test_a_capacity_of_what_is_reserved_freely_changes_nothing(trace: Trace) -> None:
    assert replay(trace, capacity=replay(trace).reserved) == replay(trace)


@given(traces())
@settings(max_examples=100, deadline=None)
def test_blocks_tile_their_segments_and_no_two_free_ones_touch(trace: Trace) -> None:
    allocator = CachingAllocator()
    live: dict[int, Block] = {}
    for event in trace.events:
        if event < 0:
            if ~event in live:
                allocator.release(live.pop(~event))
        elif trace.storages[event].size:
            live[event] = allocator.allocate(trace.storages[event].size)
        _check(allocator)
    for block in live.values():
        allocator.release(block)
    _check(allocator)
    assert allocator.allocated == 0
    allocator.give_back()
    assert allocator.reserved == 0
    assert not allocator._blocks


def _check(allocator: CachingAllocator) -> None:
    blocks = allocator._blocks
    assert sum(block.size for block in blocks.values()) == allocator.reserved
    used = [block for block in blocks.values() if not block.free]
    assert sum(block.size for block in used) == allocator.allocated
    for address, block in blocks.items():
        assert block.address == address
        if block.after is not None:
            assert block.after.before is block
            assert block.after.address == block.address + block.size
            assert not (block.free and block.after.free)
    listed = {address for pool in allocator._free.values() for _, address in pool}
    assert listed == {block.address for block in blocks.values() if block.free}
