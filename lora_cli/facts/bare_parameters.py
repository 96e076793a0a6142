"""Weights that no layer of their own holds: fused experts, and routers that are no linear layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ParameterFacts:
    """One parameter that is a matrix, or a stack of them: one an expert."""

    name: str
    matrices: int
    rows: int
    columns: int
    experts: bool
    """Whether the matrices are those of fused experts."""


_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""What configs call the number of a layer's experts."""


def bare_parameters(model: Any) -> tuple[ParameterFacts, ...]:
    """Return the matrices of `model` that are held by no linear layer, embedding or convolution."""
    return tuple(_bare(model))


def _bare(model: Any) -> Iterator[ParameterFacts]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    counts = _expert_counts(model)
    layers = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv1D)
    for module_name, module in model.named_modules():
        if isinstance(module, layers):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            shape = parameter.shape
            if len(shape) in (2, 3):
                matrices = shape[0] if len(shape) == 3 else 1
                # JetMoE and Granite call theirs `input_linear`, after what they are for one expert
                named = "expert" in module_name.lower() or shape[0] in counts
                experts = len(shape) == 3 and named
                full_name = f"{module_name}.{name}"
                yield ParameterFacts(full_name, matrices, shape[-2], shape[-1], experts)


def _expert_counts(model: Any) -> frozenset[int]:
    """Return how many experts the config says there are: one number, as a rule; empty for none."""
    config = getattr(model, "config", None)
    if config is None:
        return frozenset()
    text = config.get_text_config()
    found = {getattr(text, name, None) for name in _EXPERT_COUNTS}
    return frozenset(count for count in found if isinstance(count, int) and count > 1)
