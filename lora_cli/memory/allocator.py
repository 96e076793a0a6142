"""A model of torch's caching allocator for CUDA: what a trace reserves, and what it needs at least.

Read from c10/cuda/CUDACachingAllocator.cpp of torch 2.13, one stream, default settings: sizes are
rounded to 512 bytes; requests up to 1 MiB live in segments of 2 MiB, others in segments of 20 MiB
or, from 10 MiB on, of their own size rounded to 2 MiB; the smallest free block that is large enough
is taken, what is left of it is split off, and free neighbours are joined again. Where the driver
has no more to give, segments that are wholly free go back to it, and the request is tried again.

It does not know several streams, expandable segments, or what the driver keeps for itself.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from lora_cli.memory.trace import Trace

ROUNDING = 512
SMALL_REQUEST = 1 << 20
SMALL_SEGMENT = 2 << 20
LARGE_SEGMENT = 20 << 20
OWN_SEGMENT_FROM = 10 << 20
OWN_SEGMENT_ROUNDING = 2 << 20
RESOLUTION = 1 / 1024
"""`minimum_capacity` stops at this share of the answer."""


class OutOfMemoryError(Exception):
    """A request fits into no capacity that is left, with every free segment given back."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The highest that a replay came to, in bytes."""

    allocated: int
    """In blocks that are in use, rounded as the allocator rounds."""
    reserved: int
    """In segments taken from the driver: what `torch.cuda.max_memory_reserved` would say."""


@dataclass(slots=True, eq=False)
class Block:
    """A part of a segment; its neighbours in the segment are linked."""

    address: int
    size: int
    small: bool
    before: Block | None = None
    after: Block | None = None
    free: bool = True

    @property
    def is_segment(self) -> bool:
        """Return whether it is all of its segment."""
        return self.before is None and self.after is None


class CachingAllocator:
    """The allocator's state, and the most that was allocated and reserved so far."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.allocated = self.reserved = 0
        self.most_allocated = self.most_reserved = 0
        self._next_address = 0
        self._blocks: dict[int, Block] = {}
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        """(size, address) of the free blocks of each pool, in this order; True: the small one."""

    def allocate(self, size: int) -> Block:
        """Return a block of at least `size` bytes.

        Raises:
            OutOfMemoryError: the capacity has no room for it.
        """
        size = rounded(size)
        small = size <= SMALL_REQUEST
        block = self._taken(size, small=small) or self._segment(size, small=small)
        block.free = False
        self._split(block, size)
        self.allocated += block.size
        self.most_allocated = max(self.most_allocated, self.allocated)
        return block

    def release(self, block: Block) -> None:
        """Take a block back and join it with free neighbours."""
        self.allocated -= block.size
        block.free = True
        if block.after is not None and block.after.free:
            self._forget(block.after)
            _join(block, block.after)
        if block.before is not None and block.before.free:
            self._forget(block.before)
            joined, block = block, block.before
            _join(block, joined)
            del self._blocks[joined.address]
        self._blocks[block.address] = block
        insort(self._free[block.small], (block.size, block.address))

    def give_back(self) -> None:
        """Return every segment that is wholly free to the driver: `torch.cuda.empty_cache()`."""
        for pool in self._free.values():
            wholly_free = [each for each in pool if self._blocks[each[1]].is_segment]
            for size, address in wholly_free:
                self.reserved -= size
                self._forget(self._blocks[address])

    def _taken(self, size: int, *, small: bool) -> Block | None:
        """Return the smallest free block that is large enough, taken off its list."""
        pool = self._free[small]
        at = bisect_left(pool, (size, 0))
        return self._blocks[pool.pop(at)[1]] if at < len(pool) else None

    def _segment(self, size: int, *, small: bool) -> Block:
        segment = segment_size(size)
        if self._exceeds(segment):
            self.give_back()
            if self._exceeds(segment):
                raise OutOfMemoryError
        block = Block(self._next_address, segment, small)
        self._blocks[block.address] = block
        self._next_address += segment
        self.reserved += segment
        self.most_reserved = max(self.most_reserved, self.reserved)
        return block

    def _exceeds(self, segment: int) -> bool:
        return self.capacity is not None and self.reserved + segment > self.capacity

    def _split(self, block: Block, size: int) -> None:
        """Cut a taken block to `size` where what is left is worth keeping apart."""
        left = block.size - size
        if left < ROUNDING if block.small else left <= SMALL_REQUEST:
            return
        rest = Block(block.address + size, left, block.small, before=block, after=block.after)
        if rest.after is not None:
            rest.after.before = rest
        block.after, block.size = rest, size
        self._blocks[rest.address] = rest
        insort(self._free[rest.small], (rest.size, rest.address))

    def _forget(self, block: Block) -> None:
        pool = self._free[block.small]
        del pool[bisect_left(pool, (block.size, block.address))]
        del self._blocks[block.address]


def _join(block: Block, following: Block) -> None:
    """Make `block` one with the one that follows it."""
    block.size += following.size
    block.after = following.after
    if block.after is not None:
        block.after.before = block


def rounded(size: int) -> int:
    """Return what a request of `size` bytes takes of a segment."""
    return max(1, -(-size // ROUNDING)) * ROUNDING


def segment_size(size: int) -> int:
    """Return what is taken from the driver for a request of `size` bytes, itself rounded."""
    if size <= SMALL_REQUEST:
        return SMALL_SEGMENT
    if size < OWN_SEGMENT_FROM:
        return LARGE_SEGMENT
    return -(-size // OWN_SEGMENT_ROUNDING) * OWN_SEGMENT_ROUNDING


def replay(trace: Trace, *, workspace: int = 0, capacity: int | None = None) -> Usage:
    """Return what a trace comes to, after a `workspace` that is allocated first and kept.

    Raises:
        OutOfMemoryError: the trace needs more than `capacity`.
    """
    allocator = CachingAllocator(capacity)
    if workspace:
        allocator.allocate(workspace)
    blocks: dict[int, Block] = {}
    for event in trace.events:
        if event < 0:
            if block := blocks.pop(~event, None):
                allocator.release(block)
        elif size := trace.storages[event].size:
            blocks[event] = allocator.allocate(size)
    return Usage(allocator.most_allocated, allocator.most_reserved)


def minimum_capacity(trace: Trace, *, workspace: int = 0, usage: Usage | None = None) -> int:
    """Return the least reserved bytes that a trace runs in, to within `RESOLUTION`.

    Reserved memory is not the need: short of memory, the allocator gives free segments back. The
    answer is a capacity under which the trace has been replayed to its end. `usage` is what its
    replay without a limit came to, where that is known.
    """
    usage = usage or replay(trace, workspace=workspace)
    too_little, enough = usage.allocated - 1, usage.reserved
    while enough - too_little > max(SMALL_SEGMENT, enough * RESOLUTION):
        middle = (too_little + enough) // 2
        try:
            enough = replay(trace, workspace=workspace, capacity=middle).reserved
        except OutOfMemoryError:
            too_little = middle
    return enough
