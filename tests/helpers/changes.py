"""ΔW of canonical adapters."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

SUFFIX = ".lora_A.weight"


def changes_of(adapter: Path) -> dict[str, torch.Tensor]:
    """Return B·A of a canonical adapter by module."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    return {
        name.removeprefix("base_model.model.").removesuffix(SUFFIX): tensors[
            name.replace("lora_A", "lora_B")
        ]
        @ tensor
        for name, tensor in tensors.items()
        if name.endswith(SUFFIX)
    }
