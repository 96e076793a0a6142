"""What a GGUF file could not say is refused by its name, and nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_cli.errors import ExportError, UsageError
from lora_cli.merge.gguf.export import export_gguf
from lora_cli.merge.gguf.model import export_model
from lora_cli.merge.truncate import Limit
from tests.helpers.gguf_models import byte_level_tokenizer, make_gguf_source


def refusal(source: Path, precision: Any = None) -> str:
    output = source.parent / "out"
    with pytest.raises(ExportError) as error:
        export_model(source, output, precision)
    assert [path.name for path in source.parent.iterdir()] == [source.name]
    return str(error.value)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_gguf_source(tmp_path / "source")


def change_config(folder: Path, **settings: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_act": "gelu"}, "`hidden_act: gelu`"),
        ({"attention_bias": True, "mlp_bias": True}, "`attention_bias: True`, `mlp_bias: True`"),
    ],
)
def test_a_key_that_changes_the_computation_is_not_lost(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    said_now = refusal(make_gguf_source(tmp_path / "source", **settings))
    assert f"the file could not say {said}" in said_now


@pytest.mark.parametrize(
    ("rope", "said"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "`rope_parameters.rope_type: dynamic`"),
        (
            {
                "rope_type": "yarn",
                "factor": 2.0,
                "original_max_position_embeddings": 64,
                "beta_fast": 16,
            },
            "`rope_parameters.beta_fast: 16`",
        ),
    ],
)
def test_positions_that_llama_cpp_does_not_stretch_alike(
    source: Path, rope: dict[str, Any], said: str
) -> None:
    change_config(source, rope_parameters={"rope_theta": 10000.0, **rope})
    assert said in refusal(source)


@pytest.mark.parametrize("name", ["Gemma", "Mixtral"])
def test_an_architecture_without_a_proof(tmp_path: Path, name: str) -> None:
    """Also one whose files hold each expert by itself, where the model holds all in one."""
    said = refusal(make_gguf_source(tmp_path / "source", f"{name}ForCausalLM", head_dim=16))
    assert f"{name}ForCausalLM is not written as GGUF" in said
    assert "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM" in said


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "1 tensor missing, among them `lm_head.weight`"),
        ("foreign", "1 tensor would be lost, among them `model.extra.weight`"),
        ("shape", "`model.norm.weight` is (3,), where the config says (64,)"),
        ("infinite", "`blk.0.attn_q.weight` holds values that are not finite"),
        ("broken", "cannot be read"),
    ],
)
def test_a_checkpoint_that_is_not_whole(source: Path, fault: str, said: str) -> None:
    file = source / "model.safetensors"
    tensors = load_file(file)
    if fault == "missing":
        del tensors["lm_head.weight"]
    elif fault == "foreign":
        tensors["model.extra.weight"] = torch.zeros(2)
    elif fault == "shape":
        tensors["model.norm.weight"] = torch.zeros(3)
    elif fault == "infinite":
        tensors["model.layers.0.self_attn.q_proj.weight"][0, 0] = float("inf")
    save_file(tensors, file)
    if fault == "broken":
        file.write_bytes(file.read_bytes()[:-100])
    assert said in refusal(source)


def test_numbers_that_float16_cannot_hold(source: Path) -> None:
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"][0, 0] = 70000.0
    save_file(tensors, source / "model.safetensors")
    assert "`output.weight` holds values that float16 cannot" in refusal(source, "f16")


def test_a_quantized_model(source: Path) -> None:
    change_config(source, quantization_config={"quant_method": "bitsandbytes"})
    assert "is quantized" in refusal(source)


def test_a_disk_without_room_is_found_before_the_first_byte(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(source / "model.safetensors").values()
    needed = sum(tensor.nbytes for tensor in tensors)
    disk = SimpleNamespace(disk_usage=lambda _folder: SimpleNamespace(free=needed - 1))
    monkeypatch.setattr("lora_cli.merge.place.shutil", disk)
    said = refusal(source)
    assert "MB left" in said
    assert "name another --output, or make room" in said


def test_more_tokens_than_rows(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    source = make_gguf_source(tmp_path / "source", vocab_size=len(tokenizer) - 1)
    assert f"has token {len(tokenizer) - 1}, the embedding {len(tokenizer) - 1} rows" in refusal(
        source
    )


def test_a_taken_output_and_a_limit_on_a_model(source: Path) -> None:
    with pytest.raises(ExportError, match="holds what is read"):
        export_gguf(source, source, None, Limit())
    (source.parent / "taken").mkdir()
    (source.parent / "taken" / "mine").touch()
    with pytest.raises(ExportError, match="exists already"):
        export_gguf(source, source.parent / "taken", None, Limit())
    with pytest.raises(UsageError, match="--rank and --error are for adapters"):
        export_gguf(source, source.parent / "out", None, Limit(rank=2))


def test_neither_a_model_nor_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="holds no adapter"):
        export_gguf(tmp_path, tmp_path / "out", None, Limit())
