"""What an adapter's folder holds: its base, and the pairs (A, B) with their scaling.

Reads peft's own files; `loracli.json` beside them, where there is one, names the base that was
really used. Every tensor belongs to a pair, or the folder is refused: nothing is half merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError, PlanError
from lora_cli.facts.model_source import ModelSource, find_model
from lora_cli.merge.adapter_config import CONFIG, AdapterConfig, read_config, read_json

if TYPE_CHECKING:
    import torch

TENSORS = "adapter_model.safetensors"
ORIGIN = "loracli.json"
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
    raise MergeError("holds no adapter", str(path), hint)


def read_adapter(folder: Path) -> AdapterFolder:
    """Return the adapter with its tensors in memory.

    Raises:
        MergeError: the kind of adapter is not known, a tensor is left over or does not fit, or the
            base is not the one the adapter was trained on.
    """
    config = read_config(folder)
    updates = _updates(folder / TENSORS, config)
    return AdapterFolder(folder, _base(folder, config), updates)


def _base(folder: Path, config: AdapterConfig) -> ModelSource:
    origin = read_json(folder / ORIGIN) if (folder / ORIGIN).is_file() else {}
    _check_quantization(folder, origin)
    name = origin.get("base") or config.base_name
    if not isinstance(name, str):
        raise MergeError("does not name its base model", str(config.path))
    try:
        source = find_model(name, revision=config.revision, base_dir=Path.cwd())
    except PlanError as error:
        raise MergeError.from_problems(error.problems) from error
    planned = origin.get("base_fingerprint")
    if planned and planned != source.fingerprint:
        message = f"`{name}` is not the base that the adapter was trained on"
        raise MergeError(message, str(folder / ORIGIN), f"{source.fingerprint} ≠ {planned}")
    return source


def _check_quantization(folder: Path, origin: Mapping[str, Any]) -> None:
    quantization = origin.get("quantization") or {}
    method = quantization.get("method", "none")
    if method != "none":
        message = (
            f"was trained on a base in {method}: folded into the full-precision base it would "
            "not be the model that was trained, and this version does not fold it otherwise"
        )
        raise MergeError(message, str(folder), "use the adapter with peft, on the quantized base")


def _updates(file: Path, config: AdapterConfig) -> dict[str, Update]:
    tensors = _load(file)
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


def _load(file: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        hint = "adapters in pickle files (.bin) are not read; save it again with peft"
        raise MergeError(f"cannot be read: {error}", str(file), hint) from error


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
    if not (bool(lora_a.isfinite().all()) and bool(lora_b.isfinite().all())):
        raise MergeError(f"`{module}` holds values that are not finite", str(file))
    if config.rank(module) != lora_a.shape[0]:
        message = f"`{module}` has rank {lora_a.shape[0]}; its config says {config.rank(module)}"
        raise MergeError(message, str(file))
    return Update(lora_a, lora_b, config.scaling(module))
