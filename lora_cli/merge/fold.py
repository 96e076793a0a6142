"""Folds updates into a base's safetensors, shard by shard, one tensor at a time.

ΔW is computed and added in float32 and rounded once to the base's dtype: bit for bit what peft's
own merge gives. Memory is bounded by one shard's largest tensor and the shard being written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import Update

if TYPE_CHECKING:
    import torch


def fold_shard(source: Path, target: Path, updates: Mapping[str, Update]) -> tuple[int, set[str]]:
    """Write `target` as `source` with its share of the updates; return (tensors, names changed).

    Raises:
        MergeError: an update's shape does not fit its weight.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    folded, changed = {}, set()
    with safe_open(source, framework="pt") as shard:
        for name in shard.keys():  # noqa: SIM118  # a safetensors handle is no mapping
            weight = shard.get_tensor(name)
            if name in updates:
                weight = fold(weight, updates[name], name)
                changed.add(name)
            folded[name] = weight
        metadata = shard.metadata()
    save_file(folded, target, metadata=metadata or {"format": "pt"})
    return len(folded), changed


def fold(weight: torch.Tensor, update: Update, name: str) -> torch.Tensor:
    """Return weight + scaling·B·A, summed in float32, in the weight's dtype and layout."""
    delta = (update.lora_b.float() @ update.lora_a.float()) * update.scaling
    if update.fan_in_fan_out:
        delta = delta.T
    if delta.shape != weight.shape:
        shapes = f"{tuple(delta.shape)} does not fit the base's {tuple(weight.shape)}"
        raise MergeError(f"the update of `{name}` {shapes}", hint="is this the right base?")
    return (weight.float() + delta).to(weight.dtype)
