"""What a variant is settled for, made of bare shapes."""

from __future__ import annotations

from lora_cli.adapters.variant import Setting
from lora_cli.facts.linear_layers import LinearFacts


def setting(*shapes: tuple[int, int], steps: int = 100) -> Setting:
    """Return a setting with one module `m0`, `m1`, … of each (in, out)."""
    return Setting(
        modules=[LinearFacts(f"m{index}", *shape) for index, shape in enumerate(shapes)],
        feed_forward_ends=(),
        layers=2,
        hidden_size=32,
        key_value_size=16,
        steps=steps,
    )
