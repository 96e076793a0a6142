"""Numbers as people read them."""

from __future__ import annotations


def parameters(count: int) -> str:
    """Return 134,515,008 as `134.5M`."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)


def gigabytes(count: int) -> str:
    """Return a number of bytes in GB (10⁹), or MB below one."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def gibibytes(count: int) -> str:
    """Return a number of bytes in GiB (2³⁰), or MiB below a tenth of one: as GPUs are told of."""
    size = count / 2**30
    if size >= 10:
        return f"{size:.1f} GiB"
    return f"{size:.2f} GiB" if size >= 0.1 else f"{count / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """Return 75 as `1:15`, 3700 as `1:01:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
