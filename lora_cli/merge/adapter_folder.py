"""What an adapter's folder holds: its settings, its tensors, and the pairs (A, B) of a plain LoRA.

Reads peft's own files. Every tensor belongs to a pair, or there are no pairs: nothing is half
merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lora_cli.errors import MergeError
from lora_cli.facts.libraries import import_torch
from lora_cli.merge.adapter_config import CONFIG, AdapterConfig, read_any_config
from lora_cli.merge.base import quantization_of, read_origin

if TYPE_CHECKING:
    import torch

TENSORS = "adapter_model.safetensors"
OF_RUN = "adapter"
"""The adapter's folder in a run directory."""
PREFIX = "base_model.model."
SIDE_A, SIDE_B = ".lora_A.weight", ".lora_B.weight"
_LAYERS_OF_PEFT = (".token_adapter.", ".base_layer.", ".original_module.")
"""What stands in the name of a base's own parameter once a layer of peft's is around its module."""


@dataclass(frozen=True)
class Update:
    """ΔW = scaling · B·A for one module of the base; A (rank, in), B (out, rank)."""

    lora_a: torch.Tensor
    lora_b: torch.Tensor
    scaling: float


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter as it was saved: by peft, or by a run, which says more of its base."""

    path: Path
    config: AdapterConfig
    origin: Mapping[str, Any]
    """What `loracli.json` says of its training; nothing for one made elsewhere."""
    tensors: Mapping[str, torch.Tensor] = field(repr=False)

    @property
    def method(self) -> str:
        """Return the method's name."""
        return "DORA" if self.config.settings.get("use_dora") else self.config.kind

    @property
    def quantization(self) -> str:
        """Return how the base was held while training: a method's name, or `none`."""
        return quantization_of(self.origin)

    def on_full_precision(self) -> Self:
        """Return it for a base in full precision: what was said of quantizing is done with."""
        return replace(self, origin={**self.origin, "quantization": None})


def find_adapter(path: Path) -> Path:
    """Return the adapter's folder inside `path`: itself, or a run's `adapter`.

    Raises:
        MergeError: there is no adapter.
    """
    for folder in (path, path / OF_RUN):
        if (folder / CONFIG).is_file():
            return folder
    hint = f"name a run directory, or a folder with {CONFIG}"
    if (path / "checkpoints").is_dir():
        hint = "the run is not finished: go on with `loracli train RECIPE --resume`"
    raise MergeError("holds no adapter", str(path), hint)


def is_of_run(folder: Path) -> bool:
    """Return whether a folder is the adapter of a run directory."""
    from lora_cli.plan.run_folder import PLAN  # imports all that reads recipes

    place = folder.resolve()
    return place.name == OF_RUN and (place.parent / PLAN).is_file()


def read_adapter(folder: Path) -> AdapterFolder:
    """Return the adapter in `folder`, its tensors in memory.

    Raises:
        MergeError: it cannot be read, or a tensor holds what is no number.
    """
    return AdapterFolder(folder, read_any_config(folder), read_origin(folder), read_tensors(folder))


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return an adapter's tensors by name, all of them finite.

    Raises:
        MergeError: they cannot be read, or hold what is no number.
    """
    import_torch()
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / TENSORS
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        hint = "adapters in pickle files (.bin) are not read; save it again with peft"
        raise MergeError(f"cannot be read: {error}", str(file), hint) from error
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise MergeError(f"`{name}` holds values that are not finite", str(file))
    return tensors


def base_parameters(tensors: Iterable[str], model: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return those of an adapter's tensors that stand for a parameter of the base, and its name.

    Such are trained heads and biases, and the embeddings that peft saves beside an adapter: under
    their own names, those of a layer that peft has put around them, or both.
    """
    bare = {}
    for held in tensors:
        name = held.removeprefix(PREFIX)
        for layer in _LAYERS_OF_PEFT:
            name = name.replace(layer, ".")
        bare[held] = name
    return {held: name for held, name in bare.items() if name in model}


def pairs_of(tensors: Mapping[str, torch.Tensor], config: AdapterConfig) -> dict[str, Update]:
    """Return the pairs by the names of the base's modules.

    Raises:
        MergeError: a tensor is left over, or does not fit.
    """
    file = config.path.parent / TENSORS
    modules = [
        name.removeprefix(PREFIX).removesuffix(SIDE_A)
        for name in sorted(tensors)
        if name.startswith(PREFIX) and name.endswith(SIDE_A)
    ]
    pairs = {f"{PREFIX}{module}{side}" for module in modules for side in (SIDE_A, SIDE_B)}
    left = sorted(tensors.keys() - pairs)
    if left:
        message = f"{len(left)} of {len(tensors)} tensors would be lost, among them `{left[0]}`"
        raise MergeError(message, str(file))
    if not modules:
        raise MergeError("holds no pair of lora_A and lora_B", str(file))
    return {module: _update(tensors, module, config, file) for module in modules}


def _update(
    tensors: Mapping[str, torch.Tensor], module: str, config: AdapterConfig, file: Path
) -> Update:
    lora_a = tensors[f"{PREFIX}{module}{SIDE_A}"]
    lora_b = tensors.get(f"{PREFIX}{module}{SIDE_B}")
    if lora_b is None:
        raise MergeError(f"`{module}` has an A but no B", str(file))
    if lora_a.ndim != 2 or lora_b.ndim != 2 or lora_a.shape[0] != lora_b.shape[1]:
        shapes = f"A {tuple(lora_a.shape)}, B {tuple(lora_b.shape)}"
        raise MergeError(f"`{module}`: {shapes} do not fit together", str(file))
    if config.rank(module) != lora_a.shape[0]:
        message = f"`{module}` has rank {lora_a.shape[0]}; its config says {config.rank(module)}"
        raise MergeError(message, str(file))
    return Update(lora_a, lora_b, config.scaling(module))
