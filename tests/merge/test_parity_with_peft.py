"""Merging is bit for bit what peft does in memory, and the result is the adapted model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LNTuningConfig, get_peft_model

from tests.helpers.adapters import (
    TARGETS,
    adapted_logits,
    logits,
    make_adapter,
    peft_merged,
    save_as,
    stored,
)
from tests.helpers.merges import load, merge_into
from tests.helpers.methods import PATTERNS
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
ARCHITECTURES = ["llama", "tied_llama", "gpt2", "qwen2"]
"""GPT-2 goes through peft's layers; the others are folded without a model."""
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"lora_alpha": 5},
    "rslora": {"use_rslora": True},
    "rslora patterns": {"use_rslora": True, **PATTERNS},
}


@pytest.mark.parametrize("size", [None, "40KB"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_is_bit_for_bit_that_of_pefts_own_merge(
    tmp_path: Path,
    tiny_model: TinyModel,
    architecture: str,
    dtype: torch.dtype,
    settings: str,
    size: str | None,
) -> None:
    if size and settings != "lora":
        size = "25KB"  # other shards for the other scalings
    base = save_as(
        tiny_model(architecture),
        tmp_path / "base",
        dtype,
        **({"max_shard_size": size} if size else {}),
    )
    assert (len(list(base.glob("*.safetensors"))) > 1) == bool(size)
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS[architecture], **SETTINGS[settings])
    merged = merge_into(tmp_path / "merged", adapter)
    ours, before = stored(tmp_path / "merged"), stored(base)
    theirs = peft_merged(base, adapter, dtype)
    assert ours.keys() == before.keys()
    assert {tensor.dtype for tensor in ours.values()} == {dtype}
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
    changed = [name for name, tensor in ours.items() if not tensor.equal(before[name])]
    assert len(changed) == merged.adapter_tensors // 2 > 0
    # peft's layers may change biases too: they are made anew, and come out as they were
    made = 2 if architecture == "gpt2" else 1
    assert merged.changed_tensors == made * len(changed)


@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning")  # peft's own, of norms
def test_norms_that_peft_puts_in_the_place_of_the_bases_are_merged(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = tiny_model("llama")
    settings = LNTuningConfig(task_type="CAUSAL_LM", target_modules=["input_layernorm", "norm"])
    adapted = get_peft_model(load(base), settings)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.uniform_(0.2, 2.0)
    adapted.save_pretrained(tmp_path / "adapter")
    merge_into(tmp_path / "merged", tmp_path / "adapter", verify=True)
    merged = logits(load(tmp_path / "merged"))
    torch.testing.assert_close(merged, logits(adapted.eval()), atol=1e-5, rtol=0)
    assert not torch.allclose(merged, logits(load(base)), atol=1e-2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_transformers_loads_it_with_the_logits_of_base_and_adapter(
    tmp_path: Path, tiny_model: TinyModel, architecture: str
) -> None:
    base = tiny_model(architecture)
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS[architecture])
    merge_into(tmp_path / "merged", adapter)
    merged = logits(load(tmp_path / "merged"))
    torch.testing.assert_close(merged, adapted_logits(base, adapter), atol=1e-5, rtol=0)
    assert not torch.allclose(merged, logits(load(base)), atol=1e-2)
