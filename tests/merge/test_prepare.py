"""A merge before its first byte: which way it goes, and what will be different in the config."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.prepare import MergeOptions, Prepared, prepare_merge
from tests.helpers.adapters import TARGETS, change_tensors, make_adapter
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


def prepared(adapter: Path, base: Path, **options: Any) -> Prepared:
    return prepare_merge(read_adapter(adapter), base, MergeOptions(**options))


def quantized(adapter: Path) -> Path:
    (adapter / "loracli.json").write_text(json.dumps({"quantization": {"method": "nf4"}}))
    return adapter


def test_after_training_on_a_quantized_base_all_that_it_held_is_written(
    adapter: Path, tiny_model: TinyModel
) -> None:
    """Two modules are adapted; the other twelve were rounded beside them."""
    plan = prepared(quantized(adapter), tiny_model("llama")).plan
    assert (plan.changed, plan.requantized, len(plan.tensors)) == (2, 12, 21)


def test_onto_the_original_weights_only_the_adapters_change(
    adapter: Path, tiny_model: TinyModel
) -> None:
    base = tiny_model("llama")
    found = prepared(quantized(adapter), base, onto="original")
    assert (found.plan.changed, found.plan.requantized) == (2, 0)
    assert found.on_original
    again = prepare_merge(read_adapter(adapter), base, MergeOptions(), dequantised=True)
    assert again.plan.requantized == 0


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_the_size_is_that_of_all_tensors(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, dtype: str | None
) -> None:
    base = tiny_model(architecture)
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS[architecture])
    found = prepared(adapter, base, dtype=dtype)
    weights = sum(each.size for each in found.files.tensors.values())
    assert found.plan.size == (weights // 2 if dtype else weights)
    assert found.settings == ({"dtype": dtype} if dtype else {})


def test_several_faults_are_counted(adapter: Path, tiny_model: TinyModel) -> None:
    def widen(held: dict[str, torch.Tensor]) -> None:
        for name in [each for each in held if "lora_A" in each]:
            held[name] = torch.ones(4, 48)

    change_tensors(adapter, widen)
    with pytest.raises(MergeError, match=r"does not fit.*\(and 1 more like it\).*right base"):
        prepared(adapter, tiny_model("llama"))
