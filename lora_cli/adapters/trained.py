"""The tensors that are trained, by the model's own names: for variants that peft does not read out.

This module does not know any variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def trained_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter that is trained."""
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def put_trained_tensors(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put the values of `trained_tensors` back."""
    import torch

    with torch.no_grad():
        for name, parameter in trained_tensors(model).items():
            parameter.copy_(tensors[name])
