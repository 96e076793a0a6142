"""Adapters as GGUF: llama.cpp's alpha / rank · B·A is each module's change of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.errors import ExportError
from lora_cli.merge.gguf.adapter import export_adapter
from lora_cli.merge.gguf.model import export_model
from lora_cli.merge.truncate import Limit
from tests.helpers.adapters import change_config, make_adapter, peft_merged, stored
from tests.helpers.gguf_models import byte_level_tokenizer, make_gguf_source
from tests.helpers.methods import NOTICES

pytestmark = NOTICES

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TARGETS = [name.split(".")[1] for name in NAMES]
HEADS = {"attn_q": 4, "attn_k": 2}


def read(file: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(file)
    told = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {
        tensor.name: torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in reader.tensors
    }
    return told, tensors


def halves_apart(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Return rows (out, …) whose rotary pairs are neighbours with the pairs half a head apart."""
    size = len(rows) // heads
    order = [
        head * size + row
        for head in range(heads)
        for row in (*range(0, size, 2), *range(1, size, 2))
    ]
    return rows[order]


def changes(file: str, *, interleaved: bool) -> dict[str, torch.Tensor]:
    """Return ΔW of each module by its name in transformers, as llama.cpp computes it."""
    told, tensors = read(file)
    alpha = told["adapter.lora.alpha"]
    found = {}
    for layer in range(2):
        for module, name in NAMES.items():
            place = f"blk.{layer}.{name}.weight"
            a, b = tensors[f"{place}.lora_a"], tensors[f"{place}.lora_b"]
            delta = (b @ a) * (alpha / len(a))
            if interleaved and name in HEADS:
                delta = halves_apart(delta, HEADS[name])
            found[f"model.layers.{layer}.{module}.weight"] = delta
    return found


@pytest.mark.parametrize(
    ("class_name", "settings"),
    [
        ("LlamaForCausalLM", {}),
        ("LlamaForCausalLM", {"use_rslora": True, "lora_alpha": 3}),
        (
            "Qwen2ForCausalLM",
            {"rank_pattern": {"q_proj": 7, "down_proj": 1}, "alpha_pattern": {"v_proj": 3}},
        ),
    ],
)
def test_every_module_changes_as_peft_s_merge_changes_it(
    tmp_path: Path, class_name: str, settings: dict[str, Any]
) -> None:
    base = make_gguf_source(tmp_path / "base", class_name)
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS, **settings)
    result = export_adapter(adapter, tmp_path / "out", None, Limit())
    told, tensors = read(result.file)
    assert told["general.type"] == "adapter"
    assert told["adapter.type"] == "lora"
    assert told["general.architecture"] == ("llama" if "Llama" in class_name else "qwen2")
    assert len(tensors) == result.tensors == 2 * 2 * len(NAMES)
    before, after = stored(base), peft_merged(base, adapter, torch.float32)
    found = changes(result.file, interleaved="Llama" in class_name)
    assert len(found) == 14
    for name, delta in found.items():
        # the difference of two float32 weights of size 1 is right to 2⁻²³
        torch.testing.assert_close(delta, after[name] - before[name], atol=1e-6, rtol=0)
        assert delta.abs().max() > 0.1


def test_a_lower_rank_and_a_smaller_type(tmp_path: Path) -> None:
    base = make_gguf_source(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    result = export_adapter(adapter, tmp_path / "out", "f16", Limit(rank=2))
    told, tensors = read(result.file)
    assert (told["adapter.lora.alpha"], told["general.file_type"]) == (2.0, 1)
    assert result.kinds == {"f16": 4}
    assert tensors["blk.0.attn_q.weight.lora_a"].shape == (2, 64)
    assert tensors["blk.0.attn_q.weight.lora_b"].shape == (64, 2)


def test_the_modelfile_of_a_run(tmp_path: Path) -> None:
    base = make_gguf_source(tmp_path / "base")
    adapter = make_adapter(tmp_path / "run" / "adapter", base, ["q_proj"])
    plan = {"data": {"sources": [{"system_prompt": "Be brief."}]}}
    (tmp_path / "run" / "plan.json").write_text(json.dumps(plan))
    plain = export_adapter(adapter, tmp_path / "plain", None, Limit())
    lines = f'FROM "{base}"\nADAPTER "./adapter.gguf"\n'
    assert Path(plain.modelfile).read_text("utf-8") == lines
    origin = json.loads((tmp_path / "plain" / "loracli.json").read_text("utf-8"))
    assert origin == {"base": str(base)}
    byte_level_tokenizer().save_pretrained(adapter)
    result = export_adapter(tmp_path / "run", tmp_path / "out", None, Limit())
    text = Path(result.modelfile).read_text("utf-8")
    assert text.startswith(f'{lines}TEMPLATE """')
    assert text.endswith('PARAMETER stop "<|im_end|>"\nSYSTEM """Be brief."""\n')


def test_what_is_to_be_known_of_the_base_is_told(tmp_path: Path) -> None:
    base = make_gguf_source(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    (adapter / "loracli.json").write_text(json.dumps({"quantization": {"method": "nf4"}}))
    result = export_adapter(adapter, tmp_path / "out", None, Limit())
    assert result.notes[0].startswith("trained on a base in nf4")


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(("pre", "told"), [("smollm", True), ("gpt-2", False)])
def test_a_base_in_a_file_that_cuts_text_otherwise(tmp_path: Path, pre: str, told: bool) -> None:
    model = make_gguf_source(tmp_path / "model", tokenizer=byte_level_tokenizer(pre))
    base = Path(export_model(model, tmp_path / "base", None).file)
    adapter = make_adapter(tmp_path / "adapter", model, ["q_proj"])
    change_config(adapter, base_model_name_or_path=str(base))
    byte_level_tokenizer().save_pretrained(adapter)
    result = export_adapter(adapter, tmp_path / "out", None, Limit())
    assert [note.partition(":")[0] for note in result.notes] == (
        ["the base's file cuts text as `smollm`, and the adapter was trained on `gpt-2`"] * told
    )
    assert Path(result.modelfile).read_text("utf-8").startswith(f'FROM "{base}"\n')


def test_a_base_without_a_proof_is_refused(tmp_path: Path) -> None:
    base = make_gguf_source(tmp_path / "base", "GemmaForCausalLM", head_dim=16)
    adapter = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    with pytest.raises(ExportError, match="GemmaForCausalLM is not written"):
        export_adapter(adapter, tmp_path / "out", None, Limit())
    assert not (tmp_path / "out").exists()
