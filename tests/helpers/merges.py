"""Merges of tests: written where they are asked for, proof aside, which has tests of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from lora_cli.merge.adapted import Adapted, attach
from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.merge import MergeResult, merge_adapter
from lora_cli.merge.merged_model import merged_model
from lora_cli.merge.prepare import MergeOptions


def merge_into(folder: Path, adapter: Path, **options: Any) -> MergeResult:
    """Merge an adapter into `folder`; return what was told of it."""
    return merge_adapter(adapter, MergeOptions(**{"output": folder, "verify": False, **options}))


def load(folder: Path, auto_class: str = "AutoModelForCausalLM") -> Any:
    """Return a model as its users load it, in float32."""
    loader = getattr(transformers, auto_class)
    return loader.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def adapted_by(adapter: Path, base: Path) -> Adapted:
    """Return an adapter on the weightless model of its base."""
    read = read_adapter(adapter)
    return attach(merged_model(read, base), adapter, read.tensors)
