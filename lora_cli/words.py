"""Words that all layers use alike: a count with its noun, and what an exception says."""

from __future__ import annotations

LONGEST_REASON = 300
NUMBERS = ("perplexity", "matthews", "pearson", "spearman", "mean_squared_error")
"""Figures that are no shares."""


def counted(count: float, noun: str) -> str:
    """Return `1 row`, `1,200 rows`, `0.25 epochs`."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:.4g}"
    return f"{number} {noun}" if number == "1" else f"{number} {noun}s"


def reason_of(error: Exception) -> str:
    """Return what an exception says, its first paragraph on one line; its type if that is all.

    A key error says no more than the key, and so needs its type as well.
    """
    paragraph = str(error).strip().split("\n\n")[0]
    said = " ".join(paragraph.split())
    if isinstance(error, KeyError) or not said:
        said = f"{type(error).__name__}: {said}".removesuffix(": ")
    return said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]} …"


def figure(name: str, value: float) -> str:
    """Return `token accuracy 90.0%`, or `perplexity 1.650` for what is no share."""
    return f"{name.replace('_', ' ')} {figure_value(name, value)}"


def figure_value(name: str, value: float) -> str:
    """Return `90.0%`, or `1.650` for what is no share."""
    return f"{value:.3f}" if name in NUMBERS else f"{value:.1%}"
