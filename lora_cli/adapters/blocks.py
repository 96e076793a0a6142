"""Sizes of blocks that cut a side of a weight without a rest.

This module does not know what a block is used for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def nearest_block(wanted: int, sides: Sequence[int], *, times: int = 1, even: bool = False) -> int:
    """Return the block nearest to `wanted`, of two at least, that cuts all of `sides`.

    `times` blocks at once must do so; of two that are as near, the smaller one is taken. 0: the
    sides have no such number in common.
    """
    most = math.gcd(*sides) // times
    step = 2 if even else 1
    fitting = [size for size in range(2, most + 1, step) if math.gcd(*sides) % (size * times) == 0]
    return min(fitting, key=lambda size: abs(size - wanted), default=0)
