"""Layers and the names in them: which are alike but for their numbers, and how numbers are written.

This module does not know what a layer holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby, pairwise


def pattern_of(name: str) -> str:
    """Return a name with `*` for the numbers of layers and experts in it."""
    return ".".join(_starred(part) for part in name.split("."))


def _starred(part: str) -> str:
    if part.isdecimal():
        return "*"
    return re.sub(r"^expert_\d+$", "expert_*", part)


def stack_of(name: str) -> str:
    """Return what the layers are called that a module stands in: `model.layers`; empty for none."""
    parts = name.split(".")
    first = next((index for index, part in enumerate(parts) if part.isdecimal()), 0)
    return ".".join(parts[:first])


def ranges(numbers: Iterable[int]) -> str:
    """Return 0, 1, 2, 5 as `0-2, 5`, and 1, 3, 5 as `1-5 by 2`."""
    ordered = sorted(set(numbers))
    steps = {after - before for before, after in pairwise(ordered)}
    if len(ordered) > 2 and len(steps) == 1 and steps != {1}:
        return f"{ordered[0]}-{ordered[-1]} by {steps.pop()}"
    runs = []
    for _, run in groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        first, last = members[0], members[-1]
        runs.append(f"{first}-{last}" if last > first else str(first))
    return ", ".join(runs)
