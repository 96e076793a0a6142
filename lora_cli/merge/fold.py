"""Folds updates into a base's safetensors, shard by shard, one tensor at a time.

ΔW is computed and added in float32 and rounded once to the base's dtype: bit for bit what peft's
own merge gives. A shard is held in memory while it is written, and nothing beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import Update

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WeightUpdate:
    """An update and the layout of the weight that it belongs to."""

    update: Update
    input_by_output: bool
    """The base holds its weight as (in, out), so ΔW is transposed."""


def fold_shard(
    source: Path, target: Path, updates: Mapping[str, WeightUpdate]
) -> tuple[int, set[str]]:
    """Write `target` as `source` with its share of the updates; return (tensors, names changed).

    Raises:
        MergeError: an update does not fit its weight.
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


def fold(weight: torch.Tensor, weight_update: WeightUpdate, name: str) -> torch.Tensor:
    """Return weight + scaling·B·A, summed in float32 or finer, in the weight's dtype and layout."""
    import torch

    update = weight_update.update
    delta = (update.lora_b.float() @ update.lora_a.float()) * update.scaling
    if weight_update.input_by_output:
        delta = delta.T
    if delta.shape != weight.shape:
        shapes = f"{tuple(delta.shape)} does not fit the base's {tuple(weight.shape)}"
        raise MergeError(f"the update of `{name}` {shapes}", hint="is this the right base?")
    if not weight.is_floating_point():
        held = str(weight.dtype).removeprefix("torch.")
        raise MergeError(f"`{name}` is {held}: only full-precision bases are merged")
    finer = torch.promote_types(weight.dtype, torch.float32)
    folded = (weight.to(finer) + delta).to(weight.dtype)
    if not bool(folded.isfinite().all()):
        raise MergeError(f"`{name}` is no longer finite once the update is folded in")
    return folded
