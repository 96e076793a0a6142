"""Servers as their sources say they read an adapter, done on a plain model: no server is run.

vLLM: one scale from the top of the config, fields that it does not know dropped, nothing but pairs
(vllm/lora/peft_helper.py, lora_model.py). llama.cpp: alpha over the rank that a pair has, and no
other field (convert_lora_to_gguf.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.helpers.adapters import logits


def vllm_logits(base: Path, adapter: Path, max_lora_rank: int = 512) -> torch.Tensor:
    """Return the logits of the base with the adapter, as vLLM would apply it."""
    settings = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    assert not settings.get("use_dora"), "vLLM does not yet support DoRA"
    assert not settings.get("modules_to_save"), "vLLM only supports modules_to_save being None"
    assert settings.get("bias", "none") == "none", "Adapter bias cannot be used"
    assert settings["r"] <= max_lora_rank, "LoRA rank is greater than max_lora_rank"
    divisor = math.sqrt(settings["r"]) if settings.get("use_rslora") else settings["r"]
    return _served(base, adapter, lambda _b: settings["lora_alpha"] / divisor)


def llama_cpp_logits(base: Path, adapter: Path) -> torch.Tensor:
    """Return the logits of the base with the adapter, as llama.cpp would apply it."""
    settings = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    return _served(base, adapter, lambda lora_b: settings["lora_alpha"] / lora_b.shape[1])


def _served(base: Path, adapter: Path, scale: Callable[[torch.Tensor], float]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name, tensor in tensors.items():
        assert name.endswith((".lora_A.weight", ".lora_B.weight")), f"{name} is unsupported"
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            lora_b = tensors[name.replace("lora_A", "lora_B")]
            hook = _adding(tensor, lora_b, scale(lora_b))
            model.get_submodule(module).register_forward_hook(hook)
    return logits(model)


def _adding(lora_a: torch.Tensor, lora_b: torch.Tensor, scaling: float) -> Callable[..., Any]:
    """Return a hook that adds scaling·B·A·x to what a layer gives for x."""

    def hook(_layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return output + scaling * (inputs[0] @ lora_a.T @ lora_b.T)

    return hook
