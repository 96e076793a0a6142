"""What an adapter's folder holds: its base, and the pairs (A, B) with their scaling.

Reads peft's own files; `loracli.json` beside them, where there is one, names the base that was
really used. Knows plain LoRA and rsLoRA; anything else is refused, never half merged.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_cli.errors import MergeError
from lora_cli.facts.model_source import ModelSource, find_model

if TYPE_CHECKING:
    import torch

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
ORIGIN = "loracli.json"
PREFIX = "base_model.model."


@dataclass(frozen=True)
class Update:
    """ΔW = scaling · B·A for one weight of the base; A (rank, in), B (out, rank)."""

    lora_a: torch.Tensor
    lora_b: torch.Tensor
    scaling: float
    fan_in_fan_out: bool
    """The base holds its weight as (in, out), so ΔW is transposed."""


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter that can be folded."""

    path: Path
    base: ModelSource
    updates: dict[str, Update]
    """By the name of the base's weight tensor."""


def find_adapter(path: Path) -> Path:
    """Return the adapter's folder inside `path`: itself, or a run's `adapter`.

    Raises:
        MergeError: there is no adapter.
    """
    for folder in (path, path / "adapter"):
        if (folder / CONFIG).is_file():
            return folder
    hint = f"a run directory, or a folder with {CONFIG}"
    raise MergeError("holds no adapter", str(path), hint)


def read_adapter(folder: Path) -> AdapterFolder:
    """Return the adapter with its tensors in memory.

    Raises:
        MergeError: the kind of adapter is not known, a tensor is left over or does not fit, or the
            base is not the one the adapter was trained on.
    """
    config = _read_json(folder / CONFIG)
    _check_kind(config, folder)
    return AdapterFolder(folder, _base(folder, config), _updates(folder, config))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MergeError(f"cannot be read: {error}", str(path)) from error
    if not isinstance(value, dict):
        raise MergeError("is not a JSON mapping", str(path))
    return value


_REFUSED = {
    "use_dora": "DoRA",
    "modules_to_save": "modules trained in full",
    "trainable_token_indices": "trained tokens",
    "lora_bias": "biases on B",
    "alora_invocation_tokens": "activated LoRA",
    "target_parameters": "adapted parameters",
    "layer_replication": "replicated layers",
}


def _check_kind(config: dict[str, Any], folder: Path) -> None:
    where = str(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        kind = config.get("peft_type")
        raise MergeError(f"`{kind}` adapters are not merged by this version", where)
    found = [what for key, what in _REFUSED.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        found.append("trained biases")
    if config.get("init_lora_weights") not in (True, False, None, "gaussian"):
        found.append(f"initialisation {config['init_lora_weights']!r}, which changes the base")
    if found:
        raise MergeError(f"not merged by this version: {', '.join(found)}", where)


def _base(folder: Path, config: dict[str, Any]) -> ModelSource:
    origin = _read_json(folder / ORIGIN) if (folder / ORIGIN).is_file() else {}
    name = origin.get("base") or config.get("base_model_name_or_path")
    if not isinstance(name, str):
        raise MergeError("does not name its base model", str(folder / CONFIG))
    source = find_model(name, revision=config.get("revision"), base_dir=Path.cwd())
    planned = origin.get("base_fingerprint")
    if planned and planned != source.fingerprint:
        message = f"`{name}` is not the base that the adapter was trained on"
        raise MergeError(message, str(folder / ORIGIN), f"{source.fingerprint} ≠ {planned}")
    return source


def _updates(folder: Path, config: dict[str, Any]) -> dict[str, Update]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise MergeError(f"cannot be read: {error}", str(folder / TENSORS)) from error
    updates = {}
    for name in sorted(tensors):
        if name.endswith(".lora_A.weight") and name.startswith(PREFIX):
            module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            updates[f"{module}.weight"] = _update(tensors, module, config, folder)
    consumed = {
        f"{PREFIX}{weight.removesuffix('.weight')}.lora_{side}.weight"
        for weight in updates
        for side in "AB"
    }
    left = sorted(tensors.keys() - consumed)
    if left:
        message = f"{len(left)} of {len(tensors)} tensors would be lost, among them `{left[0]}`"
        raise MergeError(message, str(folder / TENSORS))
    if not updates:
        raise MergeError("holds no pair of lora_A and lora_B", str(folder / TENSORS))
    return updates


def _update(
    tensors: dict[str, torch.Tensor], module: str, config: dict[str, Any], folder: Path
) -> Update:
    where = str(folder / TENSORS)
    lora_a = tensors[f"{PREFIX}{module}.lora_A.weight"]
    lora_b = tensors.get(f"{PREFIX}{module}.lora_B.weight")
    if lora_b is None:
        raise MergeError(f"`{module}` has an A but no B", where)
    if lora_a.ndim != 2 or lora_b.ndim != 2 or lora_a.shape[0] != lora_b.shape[1]:
        shapes = f"A {tuple(lora_a.shape)}, B {tuple(lora_b.shape)}"
        raise MergeError(f"`{module}`: {shapes} do not fit together", where)
    if not (bool(lora_a.isfinite().all()) and bool(lora_b.isfinite().all())):
        raise MergeError(f"`{module}` holds values that are not finite", where)
    rank, alpha = _rank_and_alpha(module, config)
    if rank != lora_a.shape[0]:
        message = f"`{module}` has rank {lora_a.shape[0]}; its config says {rank}"
        raise MergeError(message, where)
    scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return Update(lora_a, lora_b, scaling, bool(config.get("fan_in_fan_out")))


def _rank_and_alpha(module: str, config: dict[str, Any]) -> tuple[int, float]:
    """Return the module's rank and alpha; patterns match as peft matches them."""
    import re

    def pattern(name: str, default: Any) -> Any:
        for key, value in (config.get(name) or {}).items():
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        return default

    return int(pattern("rank_pattern", config["r"])), float(
        pattern("alpha_pattern", config["lora_alpha"])
    )
