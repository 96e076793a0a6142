"""Bare linear layers with an adapter that peft built on them."""

from __future__ import annotations

from typing import Any

import torch
from peft import get_peft_model

from lora_cli.adapters.variant import VariantSpec
from tests.helpers.settings import setting

SHAPES = [((8, 8),), ((8, 24),), ((24, 8),), ((16, 16), (16, 64), (64, 16))]
"""Of layers, as (in, out): square, wide, tall, and together as in a block of a transformer."""


class Layers(torch.nn.Module):
    """Layers `m0`, `m1`, … of these (in, out)."""

    def __init__(self, *shapes: tuple[int, int]) -> None:
        super().__init__()
        for index, shape in enumerate(shapes):
            self.add_module(f"m{index}", torch.nn.Linear(*shape))


def adapted(spec: VariantSpec, *shapes: tuple[int, int]) -> tuple[Any, Any]:
    """Return peft's model on new layers of these shapes, and the specification settled for them."""
    settled = spec.settled(setting(*shapes))
    layers = Layers(*shapes).requires_grad_(False)
    names = [f"m{index}" for index in range(len(shapes))]
    return get_peft_model(layers, settled.peft_config(names, task="FEATURE_EXTRACTION")), settled


def trained_by_peft(spec: VariantSpec, *shapes: tuple[int, int]) -> int:
    """Return how many numbers peft trains."""
    model, _ = adapted(spec, *shapes)
    return sum(each.numel() for each in model.parameters() if each.requires_grad)


def counted(spec: VariantSpec, *shapes: tuple[int, int]) -> int:
    """Return how many numbers the specification says are trained."""
    bare = setting(*shapes)
    return spec.settled(bare).trainable_parameters(bare)
