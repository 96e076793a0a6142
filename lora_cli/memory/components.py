"""What the peak of a trace is made of: by kind, by phase, by module, and its largest parts.

Sums of bytes as they were asked for; what an allocator adds to them is told apart.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from lora_cli.memory.trace import Category, Phase, Storage, Trace

CATEGORIES: tuple[Category, ...] = get_args(Category)
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@dataclass(frozen=True, slots=True)
class Group:
    """Storages of one module in each layer, of one size."""

    name: str
    """With `*` for the layer's number."""
    category: Category
    phase: Phase
    count: int
    size: int
    """Bytes of all of them."""


def by_category(trace: Trace) -> dict[Category, int]:
    """Return the bytes of each kind at the peak; kinds without any are left out."""
    sums: Counter[Category] = Counter()
    for storage in trace.live_at_peak():
        sums[storage.category] += storage.size
    return {category: sums[category] for category in CATEGORIES if sums[category]}


def by_phase(trace: Trace) -> dict[Phase, int]:
    """Return the most bytes that are live in each phase, in the order in which phases begin."""
    peaks: dict[Phase, int] = {}
    begins = dict(trace.phases)
    live, phase = 0, trace.phases[0][1]
    for index, event in enumerate(trace.events):
        if index in begins:  # what is live when a phase begins is a part of it
            phase = begins[index]
            peaks[phase] = max(peaks.get(phase, 0), live)
        live += trace.storages[event].size if event >= 0 else -trace.storages[~event].size
        peaks[phase] = max(peaks[phase], live)
    return peaks


def by_module(trace: Trace, most: int) -> list[tuple[str, int]]:
    """Return the modules, layers taken together, whose activations take most at the peak."""
    sums: Counter[str] = Counter()
    for storage in trace.live_at_peak():
        if storage.category == "activations":
            sums[patterned(module_of(storage.name))] += storage.size
    return sums.most_common(most)


def largest(trace: Trace, most: int) -> list[Group]:
    """Return what takes most at the peak, storages of a like size and place taken together."""
    groups: dict[tuple[str, Category, Phase, int], int] = defaultdict(int)
    for each in trace.live_at_peak():
        groups[patterned(each.name), each.category, each.phase, each.size] += 1
    found = [
        Group(name, category, phase, count, count * size)
        for (name, category, phase, size), count in groups.items()
    ]
    return sorted(found, key=lambda group: -group.size)[:most]


def patterned(name: str) -> str:
    """Return `model.layers.17.mlp` as `model.layers.*.mlp`."""
    return _NUMBER.sub("*", name)


def module_of(name: str) -> str:
    """Return the module of a storage's name, which may say the operation too."""
    return name.partition(":")[0].strip()


def total(storages: Iterable[Storage]) -> int:
    """Return the bytes of several storages."""
    return sum(storage.size for storage in storages)
