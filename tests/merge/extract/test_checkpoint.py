"""Tensors read a few rows at a time, from one file or shards; broken files are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lora_cli.errors import ExtractError
from lora_cli.merge.extract import checkpoint as module
from lora_cli.merge.extract.checkpoint import Checkpoint, rows_of_both

TENSORS = {
    "matrix": torch.arange(35.0).reshape(7, 5),
    "vector": torch.arange(9.0),
    "number": torch.tensor(3.0),
    "experts": torch.arange(24.0).reshape(2, 3, 4).bfloat16(),
}


def folder_of(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 1) -> Checkpoint:
    folder.mkdir()
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return Checkpoint(folder)
    files = {name: f"model-{number % shards}.safetensors" for number, name in enumerate(tensors)}
    for file in set(files.values()):
        save_file({n: tensors[n] for n in tensors if files[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return Checkpoint(folder)


@pytest.mark.parametrize("block", [1, 10, 1000])
@pytest.mark.parametrize("shards", [1, 3])
def test_rows_together_are_the_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, shards: int
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    left = folder_of(tmp_path / "left", TENSORS, shards)
    doubled = {f"other.{name}": 2 * tensor for name, tensor in TENSORS.items()}
    right = folder_of(tmp_path / "right", doubled)
    assert set(left.names) == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert left.shape(name) == tuple(tensor.shape)
        parts = list(rows_of_both(left, name, right, f"other.{name}"))
        ours, theirs = ([part[side] for part in parts] for side in (1, 2))
        joined = torch.cat(ours)
        assert joined.dtype == tensor.dtype
        assert joined.equal(tensor.reshape(-1) if not tensor.ndim else tensor)
        assert all(other.equal(2 * own) for own, other in zip(ours, theirs, strict=True))
        assert [start for start, _, _ in parts] == sorted({start for start, _, _ in parts})
        rows = tensor[0].numel() if tensor.ndim else 1
        assert all(part.numel() <= max(block, rows) for part in ours)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has no weights in model.safetensors (only safetensors and GGUF"),
        ({"model.safetensors": "no tensors"}, "cannot be read"),
        (
            {"model.safetensors.index.json": '{"weight_map": {"a": "gone.safetensors"}}'},
            "has no weights in gone.safetensors",
        ),
        ({"model.safetensors.index.json": "{}"}, "is no index of weights"),
    ],
)
def test_missing_and_broken_files_are_named(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ExtractError) as caught:
        Checkpoint(tmp_path)
    assert said in str(caught.value)
