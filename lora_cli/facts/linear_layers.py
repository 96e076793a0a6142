"""The linear layers of a model: which can be adapted, and which are there and never called."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lora_cli.facts.heads import is_inside, output_head


@dataclass(frozen=True, slots=True)
class LinearFacts:
    """One module that multiplies by a weight of `out_features` × `in_features`."""

    name: str
    in_features: int
    out_features: int
    conv1d: bool = False
    """Whether the weight lies as (in, out), as GPT-2's do."""


def uncalled_layers(model: Any) -> tuple[LinearFacts, ...]:
    """Return the layers inside torch's own attention, which reads their weights (SigLIP's head)."""
    from torch import nn

    return tuple(
        LinearFacts(f"{name}.out_proj", module.embed_dim, module.embed_dim)
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention)
    )


def layers_and_others(
    model: Any, but: Collection[str]
) -> tuple[tuple[LinearFacts, ...], tuple[str, ...]]:
    """Return the linear layers and the names of all other modules, what is in `but` among them."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = output_head(model)
    linears, others = [], []
    for name, module in model.named_modules():
        if name and is_inside(name, but):
            others.append(name)
        elif isinstance(module, nn.Linear) and module is not head:
            linears.append(LinearFacts(name, module.in_features, module.out_features))
        elif isinstance(module, Conv1D):
            linears.append(LinearFacts(name, module.nx, module.nf, conv1d=True))
        elif name:
            others.append(name)
    return tuple(linears), tuple(others)
