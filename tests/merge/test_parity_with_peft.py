"""Merging is bit for bit what peft does in memory, and the result is the adapted model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lora_cli.merge.merge import merge_adapter
from tests.helpers.adapters import TARGETS, logits, make_adapter, peft_merged, save_as, stored
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
ARCHITECTURES = ["llama", "tied_llama", "gpt2", "qwen2"]


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_is_bit_for_bit_that_of_pefts_own_merge(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, dtype: torch.dtype, use_rslora: bool
) -> None:
    base = save_as(tiny_model(architecture), tmp_path / "base", dtype)
    targets = TARGETS[architecture]
    adapter = make_adapter(tmp_path / "adapter", base, targets, use_rslora=use_rslora)
    merged = merge_adapter(adapter, tmp_path / "merged")
    ours, theirs, before = (
        stored(tmp_path / "merged"),
        peft_merged(base, adapter, dtype),
        stored(base),
    )
    assert ours.keys() == before.keys()
    assert {tensor.dtype for tensor in ours.values()} == {dtype}
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
    changed = [name for name, tensor in ours.items() if not tensor.equal(before[name])]
    assert len(changed) == merged.changed_tensors == merged.adapter_tensors // 2 > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_transformers_loads_it_with_the_logits_of_base_and_adapter(
    tmp_path: Path, tiny_model: TinyModel, architecture: str
) -> None:
    base = tiny_model(architecture)
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS[architecture])
    merge_adapter(adapter, tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    without = logits(plain)
    adapted = logits(PeftModel.from_pretrained(plain, adapter))
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32))
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=0)
    assert not torch.allclose(merged, without, atol=1e-2)
