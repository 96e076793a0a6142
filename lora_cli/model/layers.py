"""The weight of a base's layer as (out, in) in float32, however the layer holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FOUR_BIT, EIGHT_BIT = "Params4bit", "Int8Params"
"""The classes of bitsandbytes' weights, by name: it is only imported where there is one."""


def has_input_by_output_weight(module: Any) -> bool:
    """Return whether the module is of GPT-2's kind, whose weight is (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def as_out_by_in(module: Any, held: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the shape of the module's weight as (out, in), or such a one back."""
    return held.T if has_input_by_output_weight(module) else held


def weight_of(module: Any, *, on_meta: bool = False) -> torch.Tensor:
    """Return the module's weight as (out, in), float32, dequantised; a copy.

    `on_meta` gives the shape alone, at no cost.
    """
    import torch

    if on_meta:
        return torch.empty(_shape(module), device="meta")
    return as_out_by_in(module, _dequantised(module).detach().float()).clone()


def _shape(module: Any) -> tuple[int, int]:
    if has_input_by_output_weight(module):
        rows, columns = module.weight.shape
        return columns, rows
    return module.out_features, module.in_features


def is_quantized(module: Any) -> bool:
    """Return whether the module holds its weight in 4 or 8 bits."""
    return type(module.weight).__name__ in (FOUR_BIT, EIGHT_BIT)


def _dequantised(module: Any) -> torch.Tensor:
    held: Any = module.weight
    weight: torch.Tensor = held
    if type(held).__name__ == FOUR_BIT:
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(held.data, held.quant_state)
    elif type(held).__name__ == EIGHT_BIT:
        from bitsandbytes.functional import int8_vectorwise_dequant

        scale = held.SCB if module.state.SCB is None else module.state.SCB
        weight = int8_vectorwise_dequant(held.data, scale)
    return weight
