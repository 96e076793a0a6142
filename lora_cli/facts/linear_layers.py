"""The linear layers of a model: which can be adapted, and which are there and never called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
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


_MULTIPLIED = re.compile(r"self\.(\w+)\.weight @|\blinear\(.*\bself\.(\w+)\.weight\b")
"""Code of a module that multiplies by the weight of its layer: `self.dt_proj.weight @ steps`."""


def uncalled_layers(model: Any) -> tuple[LinearFacts, ...]:
    """Return the layers whose weight the module around them reads, where it should call them.

    Such are Mamba's `dt_proj`, told by the code of its mixer, and those of torch's own attention,
    whose code is not Python's (SigLIP's head).
    """
    from torch import nn

    return tuple(
        LinearFacts(f"{name}.{child}", layer.in_features, layer.out_features)
        for name, module in model.named_modules()
        for child, layer in module.named_children()
        if isinstance(layer, nn.Linear)
        and (isinstance(module, nn.MultiheadAttention) or child in _multiplied_by(module.__class__))
    )


@cache
def _multiplied_by(kind: type) -> frozenset[str]:
    """Return the names of the layers by whose weights the code of a class multiplies."""
    found = (_MULTIPLIED.findall(code) for code in _code(kind))
    return frozenset(name for each in found for names in each for name in names if name)


def _code(kind: type) -> Iterator[str]:
    """Yield the code of the methods of a class, where it is Python's and can be read."""
    for method in vars(kind).values():
        if inspect.isfunction(method):
            try:
                yield inspect.getsource(method)
            except (OSError, TypeError):  # no file holds it
                continue


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
