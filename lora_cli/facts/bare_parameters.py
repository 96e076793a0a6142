"""Weights that no layer of their own holds: fused experts, and routers that are no linear layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def bare_parameters(model: Any) -> tuple[ParameterFacts, ...]:
    """Return the matrices of `model` that are held by no linear layer, embedding or convolution."""
    return tuple(_bare(model))


def _bare(model: Any) -> Iterator[ParameterFacts]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    layers = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv1D)
    for module_name, module in model.named_modules():
        if isinstance(module, layers):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            shape = parameter.shape
            if len(shape) in (2, 3):
                matrices = shape[0] if len(shape) == 3 else 1
                experts = len(shape) == 3 and "expert" in module_name.lower()
                full_name = f"{module_name}.{name}"
                yield ParameterFacts(full_name, matrices, shape[-2], shape[-1], experts)


def names_taken_for_experts(model: Any, leaves: Iterable[str]) -> frozenset[str]:
    """Return those last names that peft's LoRA takes for parts of the fused experts of `model`.

    Checkpoints from before experts were fused have them as layers, and peft rewrites their names;
    it does not look at whether the model has linear layers of the same names beside its experts.
    """
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    taken = set()
    for leaf in leaves:
        config = LoraConfig(target_modules=[leaf])
        try:
            convert_peft_config_for_transformers(config, model, None)
        except ValueError:  # half of what is fused: its other half has another name
            taken.add(leaf)
        if leaf not in (config.target_modules or ()):
            taken.add(leaf)
    return frozenset(taken)
