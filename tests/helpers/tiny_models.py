"""Two-layer random models with a real byte-level tokenizer and a chat template, made in moments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

SIZES = {"hidden": 32, "layers": 2, "heads": 4}


def make_tokenizer() -> Any:
    """Return a byte-level tokenizer of 259 tokens whose padding is its end token, as in SmolLM2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_config(architecture: str, vocabulary: int) -> Any:
    """Return the config of a tiny model: llama, tied_llama, qwen2, gpt2, mixtral, qwen3_moe.

    `dense_moe` is a Qwen3-MoE whose first layer has no experts; the layers of `zamba2`, which is
    tied, share one block.
    """
    import transformers

    ends = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257}
    llama_like = {
        "vocab_size": vocabulary,
        "hidden_size": SIZES["hidden"],
        "intermediate_size": 64,
        "num_hidden_layers": SIZES["layers"],
        "num_attention_heads": SIZES["heads"],
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        **ends,
    }
    if architecture in ("llama", "tied_llama"):
        tied = architecture == "tied_llama"
        return transformers.LlamaConfig(**llama_like, tie_word_embeddings=tied)
    if architecture == "qwen2":
        return transformers.Qwen2Config(**llama_like)
    if architecture == "mixtral":
        return transformers.MixtralConfig(**llama_like, num_local_experts=4)
    if architecture in ("qwen3_moe", "dense_moe"):
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
        dense = [0] if architecture == "dense_moe" else []
        return transformers.Qwen3MoeConfig(
            **llama_like, **experts, head_dim=8, mlp_only_layers=dense
        )
    if architecture == "zamba2":
        return transformers.Zamba2Config(
            **llama_like | {"num_key_value_heads": SIZES["heads"]},
            layers_block_type=["hybrid"] * SIZES["layers"],
            num_mem_blocks=1,
            adapter_rank=4,
            mamba_d_state=8,
            mamba_headdim=16,
            n_mamba_heads=4,
            chunk_size=16,
        )
    if architecture == "gpt2":
        return transformers.GPT2Config(
            vocab_size=vocabulary,
            n_embd=SIZES["hidden"],
            n_layer=SIZES["layers"],
            n_head=SIZES["heads"],
            n_positions=256,
            **ends,
        )
    raise ValueError(architecture)


def make_tiny_model(folder: Path, architecture: str = "llama", seed: int = 0, **save: Any) -> Path:
    """Write a random model with its tokenizer into `folder`, in float32 safetensors; return it."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(make_config(architecture, len(tokenizer)))
    model.save_pretrained(folder, **save)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSONL; return the path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def chat_row(question: str, answer: str) -> dict[str, Any]:
    """Return a row of the messages format with one question and its answer."""
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def sum_rows(count: int) -> list[dict[str, Any]]:
    """Return `count` different small conversations of different lengths."""
    return [
        chat_row(f"What is {number} plus {number * 3}?" + " Say." * (number % 4), f"{number * 4}.")
        for number in range(count)
    ]
