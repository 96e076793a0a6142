"""ΔW of any method, module by module, as peft's own layers compute it on the base.

A layer that changes its weight is a linear map: what it adds to its base for the unit vectors is
ΔWᵀ. So every method is asked in the same way, through the forward pass that it is used with; one
that is no such map shows it, and is refused. One weight of the base is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lora_cli.errors import MergeError
from lora_cli.merge.adapted import AdaptedModule
from lora_cli.merge.adapter_folder import AdapterFolder
from lora_cli.merge.opened import open_adapted
from lora_cli.merge.weightless import holding
from lora_cli.model.layers import as_out_by_in

if TYPE_CHECKING:
    import torch

NONLINEAR = 1e-3
"""Relative difference between a layer's answer and ΔW's that is no longer rounding."""


class AdaptedBase:
    """The base with the adapter on it, to be asked for each module's ΔW."""

    def __init__(self, adapter: AdapterFolder, base: Path) -> None:
        """Open both; of a quantized base, what it held in training is asked.

        Raises:
            MergeError: the base cannot be opened, peft does not take the adapter as it is, or it is
                on more than linear layers.
        """
        self._adapter = str(adapter.path)
        self._opened = open_adapted(adapter, base)
        adapted = self._opened.adapted
        for module in adapted.modules:
            self._check_linear(module)
        if adapted.replaced:
            name = next(iter(adapted.replaced))
            message = f"`{name}` is trained as a whole; a LoRA of linear layers cannot hold it"
            raise MergeError(message, self._adapter, "serve it with peft")

    def __len__(self) -> int:
        """Return how many modules are adapted."""
        return len(self._opened.adapted.modules)

    def changes(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield each module's name and ΔW (out, in), float32."""
        for module in self._opened.adapted.modules:
            yield module.name, self._change(module)

    def _check_linear(self, module: AdaptedModule) -> None:
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        if not isinstance(module.base, nn.Linear | Conv1D):
            kind = type(module.base).__name__
            message = f"`{module.name}` is a {kind}; a LoRA of linear layers cannot hold its change"
            raise MergeError(message, self._adapter, "serve it with peft")

    def _change(self, module: AdaptedModule) -> torch.Tensor:
        import torch

        stored, held = self._opened.stored, self._opened.held
        own = {}
        for name in module.parameters:
            short = name.removeprefix(f"{module.name}.")
            own[short] = held.of(name, stored.places[name].read()[name]).float()
        size = as_out_by_in(module.base, own["weight"]).shape[1]
        probe = torch.randn(size, generator=torch.Generator().manual_seed(0))
        inputs = torch.cat([torch.eye(size), torch.zeros(1, size), probe[None]])[None]
        (layer,) = module.layers
        with torch.no_grad(), holding(module.base, own):
            plain = module.base(inputs)[0]
            added = layer(inputs)[0] - plain
        delta: torch.Tensor = added[:size].T
        offset = added[size]
        expected = delta @ probe
        noise = NONLINEAR * expected.norm() + 1e-5 * plain[size + 1].norm()
        if offset.norm() > 1e-5 * plain.norm():
            self._refuse(f"`{module.name}` changes a bias too, which a LoRA cannot")
        if not (added[size + 1] - expected).norm() <= noise:
            self._refuse(f"`{module.name}` does more to its layer than change the weight")
        return delta

    def _refuse(self, message: str) -> None:
        raise MergeError(message, self._adapter, "merge it, or serve it with peft")
