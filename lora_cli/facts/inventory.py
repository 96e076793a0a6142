"""Every weight of a model: what holds it, of what shape, shared with what. No values are read.

This module does not know what a weight is for (`targets`) or which of them an adapter takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["Linear", "Conv1D", "Embedding", "Conv", "Parameter", "Vector"]

_NO_LAYER = "bitsandbytes quantizes linear layers"


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """A layer with its weight and bias, or a parameter that no layer of a known kind holds."""

    name: str
    """Of the layer; of the parameter, for the kinds Parameter and Vector."""
    kind: Kind
    """Conv1D holds (in, out), as GPT-2's layers do; Vector is one-dimensional: norms, scales."""
    shape: tuple[int, ...]
    """Of the weight, as it is held."""
    parameters: int
    """Weight and bias; what is tied to an earlier weight counts there."""
    tied_to: str = ""
    """The name of the first that holds the same weight; empty if this is it."""
    never_quantized: str = ""
    """Why bitsandbytes leaves it as it is, whatever a recipe says; empty if it does not."""


def inventory(model: Any) -> tuple[WeightFacts, ...]:
    """Return all weights of a model, in its order; their parameters add up to the model's."""
    return tuple(_weights(model))


def _weights(model: Any) -> Iterator[WeightFacts]:
    first: dict[int, str] = {}
    in_float32 = getattr(model, "_keep_in_fp32_modules", None) or ()
    for name, module in model.named_modules():
        own = list(module.named_parameters(recurse=False))
        fresh = {n: p for n, p in own if id(p) not in first}
        kind = _kind_of(module)
        if kind is None:
            for each, parameter in own:
                yield _bare(f"{name}.{each}".removeprefix("."), parameter, first)
        elif own:
            weight = next((p for n, p in own if n == "weight"), own[0][1])
            tied = first.get(id(weight), "")
            size = sum(parameter.numel() for parameter in fresh.values())
            why = _why_never(name, module, kind, in_float32)
            yield WeightFacts(name, kind, tuple(weight.shape), size, tied, why)
        first |= {id(parameter): name for parameter in fresh.values()}


def _bare(name: str, parameter: Any, first: dict[int, str]) -> WeightFacts:
    tied = first.setdefault(id(parameter), name)
    kind: Kind = "Vector" if parameter.ndim < 2 else "Parameter"
    shared = tied if tied != name else ""
    size = 0 if shared else parameter.numel()
    return WeightFacts(name, kind, tuple(parameter.shape), size, shared, _NO_LAYER)


def _kind_of(module: Any) -> Kind | None:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds: tuple[tuple[type, Kind], ...] = (
        (nn.Linear, "Linear"),
        (Conv1D, "Conv1D"),
        (nn.Embedding, "Embedding"),
        (nn.modules.conv._ConvNd, "Conv"),  # noqa: SLF001  # torch's only name for all of them
    )
    return next((kind for layer, kind in kinds if isinstance(module, layer)), None)


def _why_never(name: str, module: Any, kind: Kind, in_float32: Any) -> str:
    """Return why transformers does not let bitsandbytes have a layer (its `bitsandbytes.py`)."""
    from torch import nn
    from transformers.quantizers.quantizers_utils import should_convert_module

    if kind not in ("Linear", "Conv1D"):
        return _NO_LAYER
    if kind == "Linear" and type(module) is not nn.Linear:
        return f"{type(module).__name__} is a kind of linear layer that bitsandbytes leaves alone"
    if not should_convert_module(name, list(in_float32)):
        return "transformers keeps it in float32"
    return ""
