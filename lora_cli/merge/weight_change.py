"""ΔW of any method, module by module, as peft's own layers compute it on the base.

A layer that changes its weight is a linear map: what it adds to its base for the unit vectors is
ΔWᵀ. So every method is asked in the same way, through the forward pass that it is used with; one
that is no such map shows it, and is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from lora_cli.errors import MergeError, RunError
from lora_cli.merge.adapter_config import read_json
from lora_cli.model.base import BaseOptions, load_base
from lora_cli.model.layers import has_input_by_output_weight, weight_of
from lora_cli.quantization import QuantizationSpec
from lora_cli.quantization.none import Unquantized
from lora_cli.words import reason_of

if TYPE_CHECKING:
    import torch

NONLINEAR = 1e-3
"""Relative difference between a layer's answer and ΔW's that is no longer rounding."""


class AdaptedBase:
    """The base with the adapter on it, in memory, to be asked for each module's ΔW."""

    def __init__(
        self,
        base: Path,
        adapter: Path,
        tensors: Mapping[str, torch.Tensor],
        quantization: Mapping[str, Any],
    ) -> None:
        """Load both; a quantized base is loaded in full precision, and rounded module by module.

        Raises:
            MergeError: the base cannot be loaded, or peft does not take the adapter as it is.
        """
        self._adapter = str(adapter)
        self._quantization = _specification(quantization, adapter)
        model = _load(base)
        before = {name: _fingerprint(module) for name, module in _linear_layers(model).items()}
        adapted = _attach(model, adapter)
        self._layers = self._adapted_layers(adapted.base_model.model)
        _check_tensors(adapted, tensors, self._adapter)
        changed = [
            name
            for name, layer in self._layers.items()
            if before.get(name) != _fingerprint(layer.get_base_layer())
        ]
        if changed:
            message = f"peft changes the base's `{changed[0]}` when it loads this method"
            raise MergeError(message, self._adapter, "serve it with peft")

    def __len__(self) -> int:
        """Return how many modules are adapted."""
        return len(self._layers)

    def changes(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield each module's name and ΔW (out, in), float32; its layer is let go after that."""
        for name, layer in self._layers.items():
            yield name, self._change(name, layer)
            layer.get_base_layer().to("meta")

    def _adapted_layers(self, model: Any) -> dict[str, Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, BaseTunerLayer)
        }
        linear = _linear_layers(model)
        for name, layer in layers.items():
            if layer.get_base_layer() not in linear.values():
                kind = type(layer.get_base_layer()).__name__
                message = f"`{name}` is a {kind}; a LoRA of linear layers cannot hold its change"
                raise MergeError(message, self._adapter, "serve it with peft")
        if not layers:
            raise MergeError("changes no layer's weight", self._adapter, "serve it with peft")
        return layers

    def _change(self, name: str, layer: Any) -> torch.Tensor:
        import torch

        base = layer.get_base_layer()
        weight = self._quantization.requantized(weight_of(base))
        base.float()
        base.weight.data = weight.T if has_input_by_output_weight(base) else weight
        size = weight.shape[1]
        probe = torch.randn(size, generator=torch.Generator().manual_seed(0))
        inputs = torch.cat([torch.eye(size), torch.zeros(1, size), probe[None]])[None]
        with torch.no_grad():
            plain = base(inputs)[0]
            added = layer(inputs)[0] - plain
        delta: torch.Tensor = added[:size].T
        offset = added[size]
        expected = delta @ probe
        noise = NONLINEAR * expected.norm() + 1e-5 * plain[size + 1].norm()
        if offset.norm() > 1e-5 * plain.norm():
            self._refuse(f"`{name}` changes a bias too, which a LoRA cannot")
        if not (added[size + 1] - expected).norm() <= noise:
            self._refuse(f"`{name}` does more to its layer than change the weight")
        return delta

    def _refuse(self, message: str) -> None:
        raise MergeError(message, self._adapter, "merge it with peft, or serve it with peft")


def _specification(quantization: Mapping[str, Any], adapter: Path) -> Any:
    if not quantization:
        return Unquantized()
    try:
        return TypeAdapter[Any](QuantizationSpec).validate_python(dict(quantization))
    except ValidationError as error:
        message = "names a quantization that this version does not know"
        raise MergeError(message, str(adapter)) from error


def _load(base: Path) -> Any:
    settings = read_json(base / "config.json")
    if settings.get("quantization_config"):
        hint = "serve it with peft, on that base"
        raise MergeError("is quantized: only full-precision bases are read", str(base), hint)
    dtype = settings.get("dtype") or settings.get("torch_dtype") or "float32"
    options = BaseOptions(
        dtype=str(dtype),
        attention="eager",
        device="cpu",
        trust_remote_code=False,
        allow_pickle=False,
    )
    try:
        return load_base(base, Unquantized(), options).model
    except RunError as error:
        raise MergeError.from_problems(error.problems) from error


def _linear_layers(model: Any) -> dict[str, Any]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }


def _fingerprint(layer: Any) -> float:
    """Return a number that a changed weight would change."""
    return float(layer.weight.detach().double().sum())


def _attach(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is loaded is compared with the file
            return PeftModel.from_pretrained(model, str(adapter)).eval()
    except Exception as error:  # each of peft's methods refuses in its own way
        message = f"peft cannot load it: {reason_of(error)}"
        raise MergeError(message, str(adapter), "see whether a newer peft can") from error


def _check_tensors(adapted: Any, tensors: Mapping[str, torch.Tensor], adapter: str) -> None:
    """Check that the adapter in memory is the one in the file: peft passes over foreign tensors."""
    from peft import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    for name in sorted(tensors.keys() | held.keys()):
        if name not in held:
            raise MergeError(f"`{name}` would be lost: peft does not load it", adapter)
        if name not in tensors:
            raise MergeError(f"`{name}` is missing: peft would make it up", adapter)
        if not held[name].float().equal(tensors[name].float()):
            raise MergeError(f"peft loads other values for `{name}` than were saved", adapter)
