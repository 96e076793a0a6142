"""An adapter opened on its base: layers that were turned round, methods that look at the base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import HiraConfig, OFTConfig, PsoftConfig
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.merge import merge_adapter
from lora_cli.merge.opened import BY_THEMSELVES, open_adapted
from lora_cli.merge.prepare import MergeOptions
from tests.helpers.adapters import TARGETS, adapted_logits, logits, make_adapter, make_peft_adapter
from tests.helpers.methods import NOTICES

pytestmark = NOTICES
TinyModel = Callable[[str], Path]


def test_nothing_of_the_base_is_in_memory(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = tiny_model("llama")
    adapter = read_adapter(make_adapter(tmp_path / "adapter", base, TARGETS["llama"]))
    opened = open_adapted(adapter, base)
    matrices = [each for name, each in opened.model.named_parameters() if "lora_" not in name]
    assert not any(any(each.stride()) for each in matrices)
    assert len(opened.adapted.modules) == 14
    assert opened.adapted.changed() == {f"{each.name}.weight" for each in opened.adapted.modules}


def test_what_was_quantized_is_turned_round_as_it_was_in_training(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = tiny_model("gpt2")
    adapter = read_adapter(make_adapter(tmp_path / "adapter", base, TARGETS["gpt2"]))
    plain = open_adapted(adapter, base).modules["transformer.h.0.mlp.c_fc"]
    assert isinstance(plain, Conv1D)
    trained = replace(adapter, origin={"quantization": {"method": "nf4"}})
    opened = open_adapted(trained, base)
    name = "transformer.h.0.mlp.c_fc"
    assert isinstance(opened.modules[name], nn.Linear)
    storage = opened.stored.places[f"{name}.weight"]
    (weight,) = storage.read().values()
    assert weight.shape == opened.modules[name].weight.shape
    (back,) = storage.split({f"{name}.weight": weight}).values()
    assert back.equal(storage.stored[0].read())


@pytest.mark.parametrize("config", [HiraConfig, PsoftConfig])
def test_methods_that_take_from_the_base_get_its_weights(
    tmp_path: Path, tiny_model: TinyModel, config: type
) -> None:
    base = tiny_model("llama")
    settings = config(r=4, target_modules=TARGETS["llama"], task_type="CAUSAL_LM")
    adapter = make_peft_adapter(tmp_path / "adapter", base, settings)
    assert read_adapter(adapter).config.kind not in BY_THEMSELVES
    merge_adapter(adapter, MergeOptions(output=tmp_path / "merged"))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(merged), adapted_logits(base, adapter), atol=1e-4, rtol=0)


def test_what_peft_does_not_load_says_why(tmp_path: Path, tiny_model: TinyModel) -> None:
    base, other = tiny_model("llama"), tiny_model("gpt2")
    settings = OFTConfig(oft_block_size=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    adapter = make_peft_adapter(tmp_path / "adapter", base, settings)
    with pytest.raises(MergeError, match=r"peft cannot load it: .*is this the right base"):
        open_adapted(read_adapter(adapter), other)
