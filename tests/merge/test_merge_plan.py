"""What a merge will write, before it is written: every tensor once, and from where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.checkpoint import open_checkpoint
from lora_cli.merge.merge_plan import MergePlan, plan_adapted, plan_folding
from lora_cli.merge.opened import open_adapted
from lora_cli.merge.plain import plain_updates
from tests.helpers.adapters import TARGETS, make_adapter, make_peft_adapter
from tests.helpers.methods import NOTICES

pytestmark = NOTICES
TinyModel = Callable[[str], Path]


def adapted_plan(
    folder: Path, base: Path, dtype: torch.dtype | None = None, **origin: object
) -> MergePlan:
    adapter = replace(read_adapter(folder), origin=origin)
    opened = open_adapted(adapter, base)
    return plan_adapted(opened.stored, opened.adapted, opened.held, dtype)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_both_ways_plan_the_same_tensors(
    tmp_path: Path, tiny_model: TinyModel, dtype: torch.dtype | None
) -> None:
    base = tiny_model("llama")
    folder = make_adapter(tmp_path / "adapter", base, TARGETS["llama"])
    files = open_checkpoint(base)
    updates = plain_updates(read_adapter(folder), base, files)
    assert updates is not None
    folded, adapted = plan_folding(files, updates, dtype), adapted_plan(folder, base, dtype)
    assert folded.tensors == adapted.tensors
    assert [tensor.name for tensor in folded.tensors] == list(files.tensors)
    assert folded.changed == adapted.changed == 14
    copied = [tensor for tensor in folded.tensors if tensor.copied is not None]
    assert len(copied) == (0 if dtype else len(files.tensors) - 14)
    assert folded.size == sum(each.size for each in files.tensors.values()) // (2 if dtype else 1)


def test_what_the_quantized_base_held_is_written_too(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    folder = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    plan = adapted_plan(folder, base, quantization={"method": "nf4"})
    assert (plan.changed, plan.requantized) == (2, 12)
    as_they_are = {tensor.name for tensor in plan.tensors if tensor.copied is not None}
    assert {"lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"} <= as_they_are


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_a_head_set_apart_is_a_tensor_more(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("tied_llama")
    folder = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    assert adapted_plan(folder, base).untied == ()
    both = LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], task_type="CAUSAL_LM")
    plan = adapted_plan(make_peft_adapter(tmp_path / "both", base, both), base)
    assert plan.untied == ("lm_head.weight",)
    assert plan.tensors[-1].name == "lm_head.weight"
    assert len(plan.tensors) == len(open_checkpoint(base).tensors) + 1


def test_updates_that_do_not_fit_are_told_together(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    folder = make_adapter(tmp_path / "adapter", base, ["q_proj"])
    files = open_checkpoint(base)
    updates = plain_updates(read_adapter(folder), base, files)
    assert updates is not None
    wide = {name: replace(update, lora_a=torch.ones(4, 48)) for name, update in updates.items()}
    message = r"\(32, 48\) does not fit the base's \(32, 32\) \(and 1 more like it\)"
    with pytest.raises(MergeError, match=message):
        plan_folding(files, wide, None)
