"""Traces written by hand."""

from __future__ import annotations

from collections.abc import Sequence

from lora_cli.memory.trace import Category, Phase, Storage, Trace

MIB = 1 << 20


def trace_of(sizes: Sequence[int], events: Sequence[int] | None = None) -> Trace:
    """Return a trace of storages of `sizes`; without events, all are made and none is freed."""
    storages = tuple(storage(size) for size in sizes)
    return Trace(
        storages, tuple(range(len(sizes)) if events is None else events), ((0, "forward"),)
    )


def storage(
    size: int,
    category: Category = "activations",
    name: str = "model.layers.0.mlp: mm",
    phase: Phase = "forward",
) -> Storage:
    return Storage(size, category, name, phase)
