"""Tiny random models whose documents can share a row, and documents for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers

VOCABULARY, WINDOW = 61, 5


@dataclass(frozen=True)
class Document:
    """A row that is supervised as a whole."""

    input_ids: Any
    labels: Any
    prompt_tokens: int = 1


def document(length: int, seed: int) -> Document:
    """Return random tokens."""
    ids = np.random.default_rng(seed).integers(2, VOCABULARY, length).astype(np.int32)
    return Document(ids, ids.copy())


def _llama_like(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        **more,
    }


def _config(name: str) -> Any:
    mixed = {"head_dim": 8, "sliding_window": WINDOW}
    mixed["layer_types"] = ["sliding_attention", "full_attention"]
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    made = {
        "llama": lambda: transformers.LlamaConfig(**_llama_like()),
        "qwen2": lambda: transformers.Qwen2Config(**_llama_like()),
        "mixtral": lambda: transformers.MixtralConfig(**_llama_like(num_local_experts=4)),
        "mistral": lambda: transformers.MistralConfig(**_llama_like(sliding_window=WINDOW)),
        "gemma2": lambda: transformers.Gemma2Config(**_llama_like(**mixed)),
        "gemma3": lambda: transformers.Gemma3TextConfig(**_llama_like(**mixed)),
        "phi": lambda: transformers.PhiConfig(**_llama_like()),
        "gpt_oss": lambda: transformers.GptOssConfig(
            **_llama_like(**mixed, **ends, num_local_experts=4)
        ),
        "llama4": lambda: transformers.Llama4TextConfig(
            **_llama_like(head_dim=8, attention_chunk_size=WINDOW, num_local_experts=2)
        ),
        "opt": lambda: transformers.OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            word_embed_proj_dim=32,
            dropout=0.0,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
        ),
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **ends,
        ),
    }
    return made[name]()


BOTH = ("sdpa", "eager")
PACKABLE: dict[str, tuple[str, ...]] = {
    "llama": BOTH,
    "gpt2": BOTH,
    "qwen2": BOTH,
    "mixtral": BOTH,
    "mistral": BOTH,
    "gemma2": ("eager",),
    "gemma3": BOTH,
    "phi": BOTH,
    "gpt_oss": ("eager",),
    "llama4": BOTH,
    "opt": BOTH,
}
"""Kernels of each architecture; windows and chunks hold fewer tokens than documents do."""


def tiny(name: str, kernel: str) -> Any:
    """Return the model with random weights, large enough for attention to matter."""
    torch.manual_seed(0)
    auto_class = transformers.AutoModelForCausalLM
    model = auto_class.from_config(_config(name), attn_implementation=kernel).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    return model
