"""What llama.cpp builds a model from is in the file's metadata, under its own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from lora_cli.merge.gguf.model import export_model
from lora_cli.merge.gguf.rope import FACTORS
from tests.helpers.gguf_models import byte_level_tokenizer, make_gguf_source

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def metadata(file: str) -> dict[str, Any]:
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


def test_hyperparameters_and_tokens(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    rows = len(tokenizer) + 5
    source = make_gguf_source(tmp_path / "tuned", tokenizer=tokenizer, head_dim=32)
    told = metadata(export_model(source, tmp_path / "out", "f16").file)
    expected = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "tuned",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "llama.context_length": 128,
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 32,
        "llama.attention.value_length": 32,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "llama.rope.dimension_count": 32,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": rows,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.bos_token_id": tokenizer.bos_token_id,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.ggml.unknown_token_id": tokenizer.unk_token_id,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": tokenizer.chat_template,
    }
    assert {key: told.get(key) for key in expected} == expected
    tokens, types = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == rows
    assert tokens[: len(tokenizer)] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    # rows without a token are named and unused (5); special tokens are control tokens (3)
    assert tokens[-1] == f"[PAD{rows - 1}]"
    assert types[-5:] == [5] * 5
    assert {token for token, kind in zip(tokens, types, strict=True) if kind == 3} == set(
        tokenizer.all_special_tokens
    )
    merges = told["tokenizer.ggml.merges"]
    assert merges[:2] == ["t h", "th e"]


def test_a_sliding_window_bounds_the_context(tmp_path: Path) -> None:
    source = make_gguf_source(tmp_path / "source", "MistralForCausalLM", sliding_window=48)
    result = export_model(source, tmp_path / "out", None)
    assert metadata(result.file)["llama.context_length"] == 48
    assert [note.split(":")[0] for note in result.notes] == ["the context is 48 tokens, not 128"]


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_stretched_positions_are_written_as_keys(tmp_path: Path, kind: str) -> None:
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0}
    if kind == "yarn":
        rope["original_max_position_embeddings"] = 32
    source = make_gguf_source(tmp_path / "source", "Qwen2ForCausalLM", rope_parameters=rope)
    result = export_model(source, tmp_path / "out", None)
    told = metadata(result.file)
    assert told["qwen2.rope.scaling.type"] == kind
    assert told["qwen2.rope.scaling.factor"] == 4.0
    assert told.get("qwen2.rope.scaling.original_context_length") == (
        32 if kind == "yarn" else None
    )
    assert any(f"positions are stretched ({kind})" in note for note in result.notes)


def test_llama_3_frequencies_are_divided_as_transformers_stretches_them(tmp_path: Path) -> None:
    from gguf import GGUFReader
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    source = make_gguf_source(tmp_path / "source", head_dim=32, rope_parameters=LLAMA3)
    result = export_model(source, tmp_path / "out", "q8_0")
    factors = next(each for each in GGUFReader(result.file).tensors if each.name == FACTORS)
    assert factors.tensor_type.name == "F32"
    assert metadata(result.file)["llama.rope.freq_base"] == 500000.0
    found = torch.tensor(factors.data.copy())
    assert found[0] == pytest.approx(1.0)  # high frequencies stay, low ones are divided by 8
    assert found[-1] == pytest.approx(8.0)
    plain = 500000.0 ** -(torch.arange(0, 32, 2) / 32)
    expected = LlamaRotaryEmbedding(AutoConfig.from_pretrained(source)).inv_freq
    torch.testing.assert_close(plain / found, expected, rtol=1e-5, atol=0)  # float32's rounding
