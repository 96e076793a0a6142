"""What a quantized base held of its weights while the adapter was trained: the base it saw.

An adapter that was trained on 4 or 8 bits has learnt to mend their rounding too; on the original
weights it is another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from lora_cli.errors import MergeError
from lora_cli.facts.base_model import heads_of
from lora_cli.model.layers import as_out_by_in
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.none import Unquantized

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HeldWeights:
    """The weights that were held in fewer bits than the files have, by their names in the model."""

    modules: Mapping[str, Any]
    """The modules of those weights, by the weights' names."""
    specification: Any
    dtype: torch.dtype | None
    """What the base was loaded in before it was quantized; None is the files' own type."""

    @property
    def names(self) -> list[str]:
        """Return the names of the parameters of which the base held less."""
        return list(self.modules)

    def of(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return what the base held of a parameter: all of it, or what quantizing left."""
        module = self.modules.get(name)
        if module is None:
            return weight
        loaded = as_out_by_in(module, weight.to(self.dtype or weight.dtype))
        kept: torch.Tensor = self.specification.requantized(loaded)
        return as_out_by_in(module, kept)


def held_weights(model: Any, origin: Mapping[str, Any], place: str) -> HeldWeights:
    """Return what the base of an adapter held, from what `loracli.json` says of its training.

    Raises:
        MergeError: the quantization is not known here.
    """
    import torch
    from torch import nn
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.quantizers_utils import should_convert_module

    specification = specification_of(origin.get("quantization") or {}, place)
    dtype = getattr(torch, str(origin.get("dtype")), None)
    if isinstance(specification, Unquantized):
        return HeldWeights({}, specification, dtype)
    # transformers leaves out what an architecture wants in float32, such as T5's `wo`
    left_alone = [*heads_of(model), *(model._keep_in_fp32_modules or ())]  # noqa: SLF001
    modules = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and should_convert_module(name, left_alone)
        and not specification.keeps(name)
    }
    return HeldWeights(modules, specification, dtype)


def specification_of(quantization: Mapping[str, Any], place: str) -> Any:
    """Return the quantization that an adapter was trained with.

    Raises:
        MergeError: it is not known here.
    """
    if not quantization:
        return Unquantized()
    try:
        return TypeAdapter[Any](QuantizationSpec).validate_python(dict(quantization))
    except ValidationError as error:
        message = "names a quantization that this version does not know"
        raise MergeError(message, place) from error
