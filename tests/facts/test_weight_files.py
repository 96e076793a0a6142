"""Weight files by their headers: whole, of the model's shapes, and never read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_cli.errors import PlanError, Problem
from lora_cli.facts.base_model import probe_base_model
from lora_cli.facts.model_source import ModelSource, find_model
from lora_cli.facts.weight_files import check_weight_files
from tests.helpers.adapters import save_as

TinyModel = Callable[[str], Path]
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.norm.weight"


@pytest.fixture
def base(tmp_path: Path, tiny_model: TinyModel) -> Path:
    """A copy of a tiny llama in three shards or more."""
    return save_as(tiny_model("llama"), tmp_path / "base", torch.float32, max_shard_size="40KB")


@pytest.fixture
def shards(base: Path) -> list[Path]:
    found = sorted(base.glob("*.safetensors"))
    assert len(found) > 2
    return found


def check(folder: Path) -> None:
    found = find_model(str(folder), revision=None, base_dir=Path("/"))
    check_weight_files(found, probe_base_model(found, trust_remote_code=False).shapes)


def problems_of(folder: Path) -> tuple[Problem, ...]:
    with pytest.raises(PlanError) as caught:
        check(folder)
    return caught.value.problems


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("architecture", ["llama", "tied_llama", "qwen2", "gpt2"])
def test_whole_files_are_in_order(tiny_model: TinyModel, architecture: str) -> None:
    check(tiny_model(architecture))


def test_every_shard_that_is_broken_is_told(base: Path, shards: list[Path]) -> None:
    cut = shards[0].stat().st_size - 1
    with shards[0].open("r+b") as file:
        file.truncate(cut)
    shards[1].write_text("version https://git-lfs.github.com/spec/v1\n")
    shards[2].unlink()
    problems = problems_of(base)
    assert [problem.where.file for problem in problems] == [str(file) for file in shards[:3]]
    assert problems[0].message.startswith("is no whole safetensors file: ")
    assert problems[1].message.startswith("is no whole safetensors file: ")
    assert problems[2].message == "is missing among the weights"
    assert all(problem.hint.startswith("fetch the file again") for problem in problems)


@pytest.mark.parametrize("kept", [0, 5, 1000, 20_000])
def test_a_file_cut_anywhere_is_told(tmp_path: Path, tiny_model: TinyModel, kept: int) -> None:
    folder = save_as(tiny_model("llama"), tmp_path / "base", torch.float32)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:kept])
    (problem,) = problems_of(folder)
    assert problem.where.file == str(folder / "model.safetensors")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}']
)
def test_a_broken_index(base: Path, shards: list[Path], text: str) -> None:
    index = base / "model.safetensors.index.json"
    index.write_text(text)
    (problem,) = problems_of(base)
    assert problem.where.file == str(index)
    assert problem.message.startswith("is no index of weights: ")


def test_shards_without_an_index_are_not_found_by_training(base: Path) -> None:
    (base / "model.safetensors.index.json").unlink()
    (problem,) = problems_of(base)
    assert problem.where.file == str(base / "model.safetensors")
    assert problem.message == "is missing among the weights"


def test_other_shapes_than_the_config_describes(tmp_path: Path, tiny_model: TinyModel) -> None:
    folder = save_as(tiny_model("llama"), tmp_path / "base", torch.float32)
    file = folder / "model.safetensors"
    rewrite(file, lambda tensors: tensors.update({Q_PROJ: torch.zeros(16, 32)}))
    (problem,) = problems_of(folder)
    assert problem.where.file == str(file)
    assert problem.message == f"`{Q_PROJ}` is (16, 32), but config.json makes it (32, 32)"
    assert problem.hint == "config.json and the weights are of two models"
    rewrite(file, lambda tensors: tensors.update({NORM: torch.zeros(31)}))
    assert problems_of(folder)[0].message.endswith(", and 1 more do not fit")


def test_names_that_only_one_side_has_are_no_matter(tmp_path: Path, tiny_model: TinyModel) -> None:
    """Checkpoints without the model's prefix, without its head, with what it has no place for."""
    folder = save_as(tiny_model("tied_llama"), tmp_path / "base", torch.float32)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)
        tensors["lm_head.weight"] = torch.zeros(3)
        tensors["rotary.inv_freq"] = torch.zeros(3)

    rewrite(folder / "model.safetensors", change)
    check(folder)


def test_quantized_weights_lie_otherwise(tmp_path: Path, tiny_model: TinyModel) -> None:
    folder = save_as(tiny_model("llama"), tmp_path / "base", torch.float32)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    packed = torch.zeros(512, 1, dtype=torch.uint8)
    rewrite(folder / "model.safetensors", lambda tensors: tensors.update({Q_PROJ: packed}))
    check(folder)


def test_no_weight_is_read(tmp_path: Path) -> None:
    """A terabyte of nothing is read in a moment."""
    size = 10**12
    header = {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    file = tmp_path / "model.safetensors"
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        opened.truncate(8 + len(text) + size)
    source = ModelSource("folder", tmp_path, "", "safetensors")
    check_weight_files(source, {"a": (size,)})
    with pytest.raises(PlanError, match=r"`a` is \(1000000000000,\), but config\.json makes it"):
        check_weight_files(source, {"a": (2,)})


def test_what_the_hub_still_has_is_not_missed(base: Path, shards: list[Path]) -> None:
    hub = ModelSource("hub", base, "", "safetensors", hub_id="owner/name")
    shards[0].unlink()
    check_weight_files(hub, {})
    shards[1].write_bytes(b"")
    with pytest.raises(PlanError, match="no whole safetensors file"):
        check_weight_files(hub, {})


@pytest.mark.parametrize("weights", ["gguf", "pickle", "none"])
def test_other_weights_have_no_header_to_check(tmp_path: Path, weights: str) -> None:
    check_weight_files(ModelSource("gguf", tmp_path, "", weights), {})  # type: ignore[arg-type]
