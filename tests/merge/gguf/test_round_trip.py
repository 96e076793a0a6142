"""Every architecture that is written is read back by transformers as the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lora_cli.merge.gguf.architecture import ARCHITECTURES
from lora_cli.merge.gguf.model import export_model
from tests.helpers.adapters import logits
from tests.helpers.gguf_models import make_gguf_source, read_back

CASES: list[tuple[str, dict[str, Any]]] = [
    ("LlamaForCausalLM", {}),
    ("LlamaForCausalLM", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    ("LlamaForCausalLM", {"head_dim": 32, "rope_parameters": {"rope_theta": 5e5}}),
    ("MistralForCausalLM", {"head_dim": 32, "sliding_window": None}),
    ("Qwen2ForCausalLM", {}),
    # transformers reads no head size for qwen3, and takes 128
    ("Qwen3ForCausalLM", {"head_dim": 128, "tie_word_embeddings": True}),
]


def test_every_architecture_has_its_proof() -> None:
    assert {name for name, _ in CASES} == set(ARCHITECTURES)


@pytest.mark.parametrize(("class_name", "settings"), CASES)
def test_weights_and_logits_come_back_bit_for_bit(
    tmp_path: Path, class_name: str, settings: dict[str, Any]
) -> None:
    source = make_gguf_source(tmp_path / "source", class_name, **settings)
    result = export_model(source, tmp_path / "out", None)
    assert (result.precision, set(result.kinds)) == ("f32", {"f32"})
    before = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    after = read_back(Path(result.file))
    expected, found = before.state_dict(), after.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in expected if not found[name].equal(expected[name])] == []
    # the same weights, but for the class: Mistral's files are read as Llama
    assert torch.equal(logits(after), logits(before))
    assert logits(before).std() > 0.1, "a model that says something"


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float16, "f16"), (torch.bfloat16, "bf16")])
def test_by_default_a_file_holds_what_the_checkpoint_does(
    tmp_path: Path, dtype: torch.dtype, precision: str
) -> None:
    source = make_gguf_source(tmp_path / "source", dtype=dtype)
    result = export_model(source, tmp_path / "out", None)
    assert result.precision == precision
    assert result.kinds == {precision: 16, "f32": 5}
    before = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    assert torch.equal(logits(read_back(Path(result.file))), logits(before))


def test_embedding_and_head_are_held_in_8_bits_at_least(tmp_path: Path) -> None:
    from gguf import GGUFReader

    source = make_gguf_source(tmp_path / "source")
    result = export_model(source, tmp_path / "out", "q4_0")
    assert result.kinds == {"q8_0": 2, "q4_0": 14, "f32": 5}
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(result.file).tensors}
    assert kinds["token_embd.weight"] == kinds["output.weight"] == "Q8_0"
    assert kinds["blk.1.ffn_norm.weight"] == "F32"


def test_rows_that_blocks_do_not_fill_are_held_in_float16_and_said(tmp_path: Path) -> None:
    source = make_gguf_source(tmp_path / "source", intermediate_size=80)
    result = export_model(source, tmp_path / "out", "q8_0")
    assert result.kinds == {"q8_0": 14, "f16": 2, "f32": 5}
    assert result.notes == ["2 tensors are in f16: their rows are no multiple of 32 numbers"]
