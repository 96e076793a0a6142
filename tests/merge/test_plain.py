"""Which adapters need no model: and that transformers stores those models just so."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.pytorch_utils import Conv1D

from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.checkpoint import open_checkpoint
from lora_cli.merge.plain import STORED_AS_NAMED, plain_updates
from tests.helpers.adapters import TARGETS, change_config, make_adapter
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.mark.parametrize("model_type", sorted(STORED_AS_NAMED))
def test_transformers_stores_each_linear_weight_under_its_own_name(
    tmp_path: Path, model_type: str
) -> None:
    """Not converted by any name that transformers looks mappings up by; and (out, in)."""
    config = transformers.AutoConfig.for_model(model_type, **SIZES)
    model = transformers.AutoModelForCausalLM.from_config(config)
    classes = [type(each).__name__ for each in (model, model.base_model)]
    assert not any(map(get_checkpoint_conversion_mapping, (model_type, *classes)))
    assert not any(isinstance(each, Conv1D) for each in model.modules())
    model.save_pretrained(tmp_path)
    stored = open_checkpoint(tmp_path).tensors
    linear = {
        f"{name}.weight": (each.out_features, each.in_features)
        for name, each in model.named_modules()
        if isinstance(each, nn.Linear) and name != "lm_head"
    }
    assert len(linear) >= 4
    assert {name: stored[name].shape for name in linear} == linear
    assert {f"model.{name}" for name in ("layers", "norm", "embed_tokens")} >= {
        ".".join(name.split(".")[:2]) for name in stored if name != "lm_head.weight"
    }


def updates(adapter: Path, base: Path) -> set[str] | None:
    """Return the names of the tensors to change, or None where more has to be known."""
    found = plain_updates(read_adapter(adapter), base, open_checkpoint(base))
    return None if found is None else set(found)


def test_a_plain_adapter_names_the_tensors_that_it_changes(
    adapter: Path, tiny_model: TinyModel
) -> None:
    names = {f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)}
    assert updates(adapter, tiny_model("llama")) == names


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [1]},
        {"target_parameters": ["experts"]},
        {"use_what_comes_next_year": 3},
        {"peft_type": "LOHA"},
        {"task_type": "SEQ_CLS"},
        {"init_lora_weights": "pissa"},
    ],
)
def test_what_is_more_than_plain_is_for_peft_to_say(
    adapter: Path, tiny_model: TinyModel, settings: dict[str, Any]
) -> None:
    change_config(adapter, **settings)
    assert updates(adapter, tiny_model("llama")) is None


def test_embeddings_heads_and_other_models_are_for_peft_to_say(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    head = make_adapter(tmp_path / "head", tiny_model("llama"), ["q_proj", "lm_head"])
    assert updates(head, tiny_model("llama")) is None
    other = make_adapter(tmp_path / "other", tiny_model("gpt2"), TARGETS["gpt2"])
    assert updates(other, tiny_model("gpt2")) is None


def test_a_module_that_the_files_do_not_hold_is_for_peft_to_say(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    config = json.loads((base / "config.json").read_text("utf-8"))
    (base / "config.json").write_text(json.dumps({**config, "model_type": "qwen3_moe"}))
    assert updates(adapter, base) is None


def test_no_model_is_built_for_it(
    adapter: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing what builds one would take longer than the merge."""
    for name in ("lora_cli.merge.adapted", "lora_cli.merge.merged_model", "peft", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    from lora_cli.merge.merge import merge_adapter
    from lora_cli.merge.prepare import MergeOptions

    output = adapter.parent / "merged"
    result = merge_adapter(adapter, MergeOptions(output=output, verify=False))
    assert (result.changed_tensors, result.tensors) == (2, 21)
    assert torch.float32 in {each.read().dtype for each in open_checkpoint(output).tensors.values()}
