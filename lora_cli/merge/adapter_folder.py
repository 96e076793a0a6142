"""What an adapter's folder holds: its base, and the pairs (A, B) with their scaling.

Reads peft's own files. Every tensor belongs to a pair, or the folder is refused: nothing is half
merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError
from lora_cli.facts.model_source import ModelSource
from lora_cli.merge.adapter_config import CONFIG, AdapterConfig, read_config
from lora_cli.merge.base import find_base, quantization_of, read_origin

if TYPE_CHECKING:
    import torch

TENSORS = "adapter_model.safetensors"
PREFIX = "base_model.model."
SIDE_A, SIDE_B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Update:
    """ΔW = scaling · B·A for one module of the base; A (rank, in), B (out, rank)."""

    lora_a: torch.Tensor
    lora_b: torch.Tensor
    scaling: float


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter that can be folded."""

    path: Path
    base: ModelSource
    updates: dict[str, Update]
    """By the name of the base's module."""


def find_adapter(path: Path) -> Path:
    """Return the adapter's folder inside `path`: itself, or a run's `adapter`.

    Raises:
        MergeError: there is no adapter.
    """
    for folder in (path, path / "adapter"):
        if (folder / CONFIG).is_file():
            return folder
    hint = f"name a run directory, or a folder with {CONFIG}"
    if (path / "checkpoints").is_dir():
        hint = "the run is not finished: go on with `loracli train RECIPE --resume`"
    raise MergeError("holds no adapter", str(path), hint)


def read_adapter(folder: Path) -> AdapterFolder:
    """Return the adapter with its tensors in memory.

    Raises:
        MergeError: the kind of adapter is not known, a tensor is left over or does not fit, or the
            base is not the one the adapter was trained on.
    """
    config, origin = read_config(folder), read_origin(folder)
    updates = pairs_of(read_tensors(folder), config)
    _check_quantization(folder, origin)
    return AdapterFolder(folder, find_base(config, origin), updates)


def _check_quantization(folder: Path, origin: dict[str, Any]) -> None:
    method = quantization_of(origin)
    if method != "none":
        message = (
            f"was trained on a base in {method}: folded into the full-precision base it would "
            "not be the model that was trained, and this version does not fold it otherwise"
        )
        raise MergeError(message, str(folder), "use the adapter with peft, on the quantized base")


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return an adapter's tensors by name, all of them finite.

    Raises:
        MergeError: they cannot be read, or hold what is no number.
    """
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
