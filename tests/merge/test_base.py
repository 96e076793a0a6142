"""The base of an adapter: elsewhere when told, and dequantised when its files are packed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import read_adapter
from lora_cli.merge.base import doubt_about, find_base, full_precision
from lora_cli.model.base import load_base
from lora_cli.model.layers import as_out_by_in, is_quantized, weight_of
from tests.helpers.adapters import stored
from tests.helpers.cells import METHODS, options
from tests.helpers.families import FAMILIES
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


def test_a_base_that_was_moved_is_found_where_it_is_said_to_be(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel
) -> None:
    moved = Path(shutil.copytree(tiny_model("llama"), tmp_path / "moved"))
    read = read_adapter(adapter)
    assert find_base(read.config, read.origin, str(moved)).folder == moved
    origin: dict[str, Any] = {"base": "/nowhere", "base_fingerprint": "folder:sha256:0123"}
    with pytest.raises(MergeError, match="is not the base that the adapter was trained on"):
        find_base(read.config, origin, str(moved))


def test_a_base_of_another_kind_cannot_be_told_from_the_trained_one(
    adapter: Path, tiny_model: TinyModel
) -> None:
    """A commit of the hub says nothing of files that were copied from it."""
    origin = {"base": "owner/name", "base_fingerprint": "hub:owner/name@0123"}
    found = find_base(read_adapter(adapter).config, origin, str(tiny_model("llama")))
    assert doubt_about(origin, found) == (
        "the adapter was trained on hub:owner/name@0123: that these are its weights was not checked"
    )
    assert "only their shapes were checked" in doubt_about({}, found)
    assert doubt_about({"base_fingerprint": found.fingerprint}, found) == ""


def test_another_base_is_taken_if_told_so(adapter: Path, tiny_model: TinyModel) -> None:
    origin = {"base": str(tiny_model("llama")), "base_fingerprint": "folder:sha256:0123"}
    config = read_adapter(adapter).config
    with pytest.raises(MergeError, match="--any-base"):
        find_base(config, origin)
    found = find_base(config, origin, any_base=True)
    assert "is not the base that the adapter was trained on" in doubt_about(origin, found)


def test_files_in_full_precision_are_the_bases_own(tiny_model: TinyModel) -> None:
    with full_precision(tiny_model("llama")) as base:
        assert base == tiny_model("llama")


@pytest.mark.parametrize("method", ["nf4", "int8"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5", "mixtral"])
def test_packed_files_are_dequantised_to_what_they_hold(
    tmp_path: Path, name: str, method: str
) -> None:
    """Of any class, under the names and in the layout of files in full precision."""
    family = FAMILIES[name]
    plain = family.write(tmp_path / "plain")
    model = load_base(plain, METHODS[method], options(family)).model
    model.save_pretrained(tmp_path / "packed")
    with full_precision(tmp_path / "packed") as base:
        temporary = base
        config = json.loads((base / "config.json").read_text("utf-8"))
        assert "quantization_config" not in config
        found, due = stored(base), stored(plain)
        assert {key: each.shape for key, each in found.items()} == {
            key: each.shape for key, each in due.items()
        }
        loader = getattr(transformers, family.auto_class)
        loaded = loader.from_pretrained(base, dtype=torch.float32)
        for each, module in model.named_modules():
            if isinstance(module, nn.Linear) and is_quantized(module):
                ours = loaded.get_submodule(each)
                held = weight_of(module).float()
                assert as_out_by_in(ours, ours.weight.data).equal(held)
    assert not temporary.exists()


def test_files_packed_in_another_way_are_an_error(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(MergeError, match=r"base: is held in gptq.*serve the adapter"):
        full_precision(base).__enter__()
