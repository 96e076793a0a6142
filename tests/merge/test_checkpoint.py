"""Checkpoints as they lie in their files: what is read is what safetensors reads."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lora_cli.errors import MergeError
from lora_cli.facts.weight_files import INDEX, SINGLE
from lora_cli.merge.checkpoint import TORCH_NAMES, companions_size, open_checkpoint

DTYPES = [getattr(torch, name) for name in TORCH_NAMES.values()]


def some(dtype: torch.dtype) -> torch.Tensor:
    """Return 12 different numbers in 3 rows."""
    return torch.arange(12).reshape(3, 4).to(dtype)


def raw(file: Path, header: object, content: bytes = b"") -> Path:
    """Write a file that begins as safetensors' do; return its folder."""
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return file.parent


def test_every_type_is_read_as_safetensors_wrote_it(tmp_path: Path) -> None:
    tensors = {str(dtype): some(dtype) for dtype in DTYPES}
    save_file(tensors, tmp_path / SINGLE, metadata={"format": "pt"})
    found = open_checkpoint(tmp_path)
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        stored = found.tensors[name]
        assert stored.shape == (3, 4)
        assert stored.size == tensor.numel() * tensor.element_size()
        read = stored.read()
        assert read.dtype == tensor.dtype
        assert read.view(torch.uint8).equal(tensor.view(torch.uint8))
        blocks = {first: block.clone() for first, block in stored.blocks(2)}
        assert list(blocks) == [0, 2]
        assert torch.cat(list(blocks.values())).view(torch.uint8).equal(tensor.view(torch.uint8))


def test_a_single_file_is_read_before_an_index_as_transformers_does(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / SINGLE)
    save_file({"a": torch.ones(2)}, tmp_path / "part.safetensors")
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "part.safetensors"}}')
    assert open_checkpoint(tmp_path).tensors["a"].read().equal(torch.zeros(2))


def test_tensors_without_numbers_and_single_numbers_are_read(tmp_path: Path) -> None:
    tensors = {"empty": torch.zeros(0, 3), "one": torch.tensor(2.5), "zero": torch.zeros(())}
    save_file(tensors, tmp_path / SINGLE)
    found = open_checkpoint(tmp_path).tensors
    for name, tensor in tensors.items():
        assert found[name].read().equal(tensor)


def test_tensors_are_in_the_order_of_their_bytes_over_all_shards(tmp_path: Path) -> None:
    save_file({"b": some(torch.float32), "a": some(torch.float32)}, tmp_path / "two.safetensors")
    save_file({"c": some(torch.float16)}, tmp_path / "one.safetensors")
    weight_map = {"a": "two.safetensors", "b": "two.safetensors", "c": "one.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    found = open_checkpoint(tmp_path)
    assert {name: [each.name for each in shard] for name, shard in found.shards.items()} == {
        "one.safetensors": ["c"],
        "two.safetensors": ["a", "b"],
    }
    starts = [each.start for each in found.shards["two.safetensors"]]
    assert starts == sorted(starts)


def test_files_that_the_index_does_not_name_are_not_read(tmp_path: Path) -> None:
    save_file({"a": some(torch.float32)}, tmp_path / SINGLE)
    save_file({"b": some(torch.float32)}, tmp_path / "consolidated.safetensors")
    assert open_checkpoint(tmp_path).tensors.keys() == {"a"}


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, r"has no weights in model.*only safetensors"),
        ({"weight_map": {"a": "lost.safetensors"}}, r"has no weights in lost.*only safetensors"),
        ({"weight_map": {}}, r"has no weights in model.*only safetensors"),
        ({}, "is no index of weights"),
        ([], "is no index of weights"),
    ],
)
def test_weights_that_are_not_there_are_an_error(
    tmp_path: Path, index: object, message: str
) -> None:
    if index is not None:
        (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(MergeError, match=message):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"no header", struct.pack("<Q", 2**60) + b'{"a":', struct.pack("<Q", 2) + b"[]"],
)
def test_what_is_no_safetensors_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SINGLE).write_bytes(content)
    with pytest.raises(MergeError, match=rf"{SINGLE}: cannot be read"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("held", [{}, {"dtype": "F32"}, {"dtype": "F32", "shape": 3}, 5])
def test_a_header_that_says_too_little_is_an_error(tmp_path: Path, held: object) -> None:
    with pytest.raises(MergeError, match="cannot be read"):
        open_checkpoint(raw(tmp_path / SINGLE, {"a": held}))


def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    save_file({"a": some(torch.float32)}, tmp_path / SINGLE)
    content = (tmp_path / SINGLE).read_bytes()
    (tmp_path / SINGLE).write_bytes(content[:-1])
    with pytest.raises(MergeError, match="is cut off"):
        open_checkpoint(tmp_path)


def test_a_file_that_shrinks_once_it_is_open_is_an_error(tmp_path: Path) -> None:
    save_file({"a": some(torch.float32)}, tmp_path / SINGLE)
    stored = open_checkpoint(tmp_path).tensors["a"]
    (tmp_path / SINGLE).write_bytes((tmp_path / SINGLE).read_bytes()[:-1])
    with pytest.raises(MergeError, match="ends inside `a`"):
        stored.read()


def test_a_type_whose_size_is_not_known_is_an_error_and_no_wrong_copy(tmp_path: Path) -> None:
    """Four bits a number: taken for a byte each, two tensors' bytes would be copied as one's."""
    header = {"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}
    with pytest.raises(MergeError, match=r"`a` is not as long as its type, F4, and shape say"):
        open_checkpoint(raw(tmp_path / SINGLE, header, b"abcd"))


def test_a_type_that_torch_has_none_of_can_be_copied_but_not_read(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]}}
    stored = open_checkpoint(raw(tmp_path / SINGLE, header, b"abcd")).tensors["a"]
    assert stored.size == 4
    with pytest.raises(MergeError, match="of a type not known here, F8_E8M0"):
        stored.read()


def test_what_lies_beside_the_weights_is_counted(tmp_path: Path) -> None:
    for name in ("a.json", "b.txt", "model.safetensors", "old.bin", "x.gguf"):
        (tmp_path / name).write_bytes(b"1234")
    (tmp_path / "folder").mkdir()
    assert companions_size(tmp_path) == 8
