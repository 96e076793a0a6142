"""Adapters of many methods, written by plain peft on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    EvaConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    LoraGAConfig,
    MissConfig,
    OFTConfig,
    PeftConfig,
    RandLoraConfig,
    VeraConfig,
    get_peft_model,
)
from peft.tuners.lora import preprocess_loraga
from transformers import AutoModelForCausalLM

from tests.helpers.adapters import TARGETS, make_peft_adapter

NOTICES = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "`is_gradient_checkpointing` is deprecated",
        "lora with eva initialization used with low_cpu_mem_usage",
        "Full backward hook is firing",
        "Failed to load the CUDA extension",
        "Setting boft_n_butterfly_factor to 1",
        "Sparse invariant checks are implicitly disabled",
        "Unsupported layer type",
        "fan_in_fan_out is set to False but",
    )
]
"""For tests that use peft as its users do."""

Make = Callable[[Path, Path, str], Path]
"""(new folder, base, architecture) → the folder."""

PATTERNS: dict[str, Any] = {
    "rank_pattern": {r".*\.0\..*(q_proj|c_attn)": 2, "(up_proj|c_fc)": 6},
    "alpha_pattern": {r".*\.1\..*": 3},
}


def method(kind: Callable[..., PeftConfig], **settings: Any) -> Make:
    """Return how an adapter of one method is made, on all linear layers."""

    def make(folder: Path, base: Path, architecture: str) -> Path:
        return make_peft_adapter(folder, base, config_of(kind, architecture, settings))

    return make


def config_of(
    kind: Callable[..., PeftConfig], architecture: str, settings: dict[str, Any]
) -> PeftConfig:
    """Return the configuration of a method for an architecture."""
    layout: dict[str, Any] = {}
    if architecture == "gpt2" and kind in (LoraConfig, AdaLoraConfig, VeraConfig, IA3Config):
        layout = {"fan_in_fan_out": True}
    return kind(
        task_type="CAUSAL_LM", target_modules=TARGETS[architecture], **{**layout, **settings}
    )


def converted(**settings: Any) -> Make:
    """Return how an adapter is made that starts from a part of the base, and is saved as a LoRA."""

    def make(folder: Path, base: Path, architecture: str) -> Path:
        config = config_of(LoraConfig, architecture, {"r": 4, "lora_alpha": 8, **settings})
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if settings["init_lora_weights"] == "lora_ga":
            preprocess_loraga(model, config, lambda: step_of(model))
        adapted: Any = get_peft_model(model, config)
        adapted.peft_config["default"].init_lora_weights = True
        start = folder.parent / f"{folder.name}-start"
        adapted.save_pretrained(start, save_embedding_layers=False)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.2 * torch.randn_like(parameter)
        adapted.save_pretrained(
            folder,
            save_embedding_layers=False,
            path_initial_model_for_weight_conversion=str(start),
        )
        return folder

    return make


def step_of(model: Any) -> None:
    """Give the model's weights the gradients of one batch."""
    tokens = torch.arange(2, 34).reshape(2, 16)
    model(input_ids=tokens, labels=tokens).loss.backward()


EXACT: dict[str, Make] = {
    "lora": method(LoraConfig, r=4, lora_alpha=5),
    "rslora": method(LoraConfig, r=4, lora_alpha=5, use_rslora=True),
    "patterns": method(LoraConfig, r=4, lora_alpha=8, **PATTERNS),
    "rslora patterns": method(LoraConfig, r=4, lora_alpha=8, use_rslora=True, **PATTERNS),
    "eva": method(
        LoraConfig,
        r=4,
        lora_alpha=8,
        init_lora_weights="eva",
        eva_config=EvaConfig(),
        rank_pattern=PATTERNS["rank_pattern"],
    ),
    "orthogonal": method(LoraConfig, r=4, lora_alpha=8, init_lora_weights="orthogonal"),
    "pissa": converted(init_lora_weights="pissa"),
    "pissa rslora": converted(init_lora_weights="pissa", use_rslora=True),
    "lora_ga": converted(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig()),
    "adalora": method(AdaLoraConfig, init_r=6, target_r=3, total_step=9, tinit=1, tfinal=2),
    "vera": method(VeraConfig, r=16),
}
"""On Llama and GPT-2."""

EXACT_ON_LINEAR: dict[str, Make] = {
    "olora": converted(init_lora_weights="olora"),
    "loha": method(LoHaConfig, r=4, alpha=6),
    "miss": method(MissConfig, r=5),  # 32 and 64 inputs are no multiples of it
    "miss mini": method(MissConfig, r=4, mini_r=8, init_weights="mini"),
}
"""What peft has no code for, or none that works, on GPT-2's layers."""

APPROXIMATE: dict[str, Make] = {
    "dora": method(LoraConfig, r=4, lora_alpha=8, use_dora=True),
    "loha patterns": method(LoHaConfig, r=4, rank_pattern={"q_proj": 2}),
    "lokr": method(LoKrConfig, r=4),
    "ia3": method(IA3Config, feedforward_modules=["down_proj"]),
    "oft": method(OFTConfig, oft_block_size=8),
    "boft": method(BOFTConfig, boft_block_size=4),
    "randlora": method(RandLoraConfig, r=4),
    "fourierft": method(FourierFTConfig, n_frequency=50),
    "miss bat": method(MissConfig, r=4, init_weights="bat"),
    "hra": method(HRAConfig, r=4),
}
"""On Llama."""
