"""Adapters that plain peft wrote, with random pairs on tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}
TARGETS["tied_llama"] = TARGETS["qwen2"] = TARGETS["llama"]


def make_adapter(
    folder: Path, base: Path, targets: list[str], *, seed: int = 0, **settings: Any
) -> Path:
    """Write an adapter of `base` whose A and B are both random; return its folder."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    fields = {"r": 4, "lora_alpha": 8, "fan_in_fan_out": "c_fc" in targets, **settings}
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", target_modules=targets, **fields)
    )
    torch.manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


def make_peft_adapter(folder: Path, base: Path, config: PeftConfig, *, seed: int = 0) -> Path:
    """Write an adapter of any method, with noise on all that it trains; return its folder."""
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config
    )
    torch.manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn_like(parameter)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


def adapted_logits(base: Path, adapter: Path) -> torch.Tensor:
    """Return the logits of base and adapter in plain peft, in float32."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(model, adapter).eval())


def change_config(adapter: Path, **settings: Any) -> None:
    """Change settings of an adapter; None takes one away."""
    file = adapter / "adapter_config.json"
    config = {**json.loads(file.read_text("utf-8")), **settings}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}), "utf-8")


def change_tensors(adapter: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors of an adapter."""
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint, over all its shards."""
    held: dict[str, torch.Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        held |= load_file(shard)
    return held


def save_as(base: Path, folder: Path, dtype: torch.dtype, **options: Any) -> Path:
    """Write a copy of a model in another precision, or in shards."""
    AutoModelForCausalLM.from_pretrained(base, dtype=dtype).save_pretrained(folder, **options)
    return folder


def peft_merged(base: Path, adapter: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return all tensors of the model after peft's own merge."""
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=dtype), adapter
    )
    return dict(model.merge_and_unload().state_dict())


def logits(model: Any) -> torch.Tensor:
    """Return a model's logits for two fixed rows of tokens."""
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(2, 34).reshape(2, 16)).logits
    return found
