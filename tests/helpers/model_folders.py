"""Model folders without weights: a config is all that planning reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.helpers.tiny_models import CHAT_TEMPLATE, make_tokenizer

TINY: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}

_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", TINY),
    "tied_llama": ("LlamaConfig", {**TINY, "tie_word_embeddings": True}),
    "gpt2": ("GPT2Config", {**_GPT, "vocab_size": 259}),
    "neox": ("GPTNeoXConfig", TINY),
    "falcon": ("FalconConfig", TINY),
    "phi": ("PhiConfig", TINY),
    "mixtral": ("MixtralConfig", {**TINY, "num_local_experts": 4}),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        {**TINY, "num_experts": 4, "moe_intermediate_size": 16, "mlp_only_layers": [0]},
    ),
    "gpt_oss": ("GptOssConfig", {**TINY, "num_local_experts": 4, "head_dim": 8}),
    "gptj": ("GPTJConfig", {**_GPT, "rotary_dim": 4}),
}
"""Tiny models of several architectures: the class of the config, and its values."""


def config_folder(folder: Path, config_class: str, **values: Any) -> Path:
    """Write the config of a transformers class with these values into `folder`; return it."""
    import transformers

    config = getattr(transformers, config_class)(**values)
    config.save_pretrained(folder)
    return folder


def raw_config(folder: Path, content: Any) -> Path:
    """Write a config.json that holds just `content` (text as it stands); return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "config.json").write_text(text, "utf-8")
    return folder


def write_gguf(
    path: Path, *, architecture: str = "llama", tensors: Mapping[str, Any] | None = None
) -> Path:
    """Write a GGUF file that describes a tiny model and its tokenizer.

    It holds no tensor but `tensors`: by name, (values, their GGMLQuantizationType).
    """
    import gguf

    tokenizer = make_tokenizer()
    # one merge: transformers reads a list without any as no list
    tokens = [*tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))), "ab"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3] * 3 + [1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_pad_token_id(257)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, (values, kind) in (tensors or {}).items():
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
