"""What is written is what safetensors reads: every byte of every tensor, in its file."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lora_cli.facts.weight_files import INDEX, SINGLE
from lora_cli.merge import writing
from lora_cli.merge.checkpoint import TORCH_NAMES, Checkpoint, open_checkpoint
from lora_cli.merge.writing import NewTensor, Rows, lay_out, write_layout

CODES = [code for code in TORCH_NAMES if code not in ("C64", "U16", "U32", "U64")]


class Given:
    """A rewrite that gives a tensor in pieces of so many rows."""

    def __init__(self, name: str, values: torch.Tensor, rows: int = 2) -> None:
        self.name, self.values, self.step = name, values, rows
        self.names = (name,)

    def rows(self) -> Iterator[Rows]:
        """Give the rows; a single number as a whole."""
        if not self.values.ndim:
            yield Rows(self.name, 0, self.values)
            return
        for first in range(0, len(self.values), self.step):
            yield Rows(self.name, first, self.values[first : first + self.step])


def base(folder: Path, *shards: dict[str, torch.Tensor]) -> Checkpoint:
    """Write shards, and the index if there are several; return the checkpoint."""
    folder.mkdir(exist_ok=True)
    if len(shards) == 1:
        save_file(shards[0], folder / SINGLE)
        return open_checkpoint(folder)
    weight_map = {}
    for number, shard in enumerate(shards):
        name = f"part-{number}.safetensors"
        save_file(shard, folder / name)
        weight_map.update(dict.fromkeys(shard, name))
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return open_checkpoint(folder)


def kept(checkpoint: Checkpoint) -> list[NewTensor]:
    """Return all tensors, to be copied."""
    return [
        NewTensor(each.name, each.dtype, each.shape, each) for each in checkpoint.tensors.values()
    ]


def written(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a folder, as safetensors' own reader finds them."""
    held = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}
            held |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return held


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors are alike to the bit; NaN are numbers like others."""
    return (one.dtype, one.shape) == (other.dtype, other.shape) and one.contiguous().reshape(
        -1
    ).view(torch.uint8).equal(other.contiguous().reshape(-1).view(torch.uint8))


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Draw a tensor of any type, of up to three dimensions, any of them empty."""
    code = draw(st.sampled_from(CODES))
    shape = draw(st.lists(st.integers(0, 5), max_size=3))
    seed = draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * 50
    dtype = getattr(torch, TORCH_NAMES[code])
    return values.abs().clamp(max=100).to(dtype) if code in ("U8", "BOOL") else values.to(dtype)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(tensors(), min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(tensors(), max_size=2),
    st.sampled_from([None, 1, 60, 10**6]),
    st.data(),
)
def test_whatever_is_written_is_read_again(
    held: list[list[torch.Tensor]],
    added: list[torch.Tensor],
    most: int | None,
    data: st.DataObject,
) -> None:
    """Copied, made anew in pieces or added; in the base's files or in ones of any size."""
    shards = [
        {f"t{number}.{place}": each for place, each in enumerate(shard)}
        for number, shard in enumerate(held)
    ]
    everything = {name: each for shard in shards for name, each in shard.items()}
    changed = data.draw(st.sets(st.sampled_from(sorted(everything)))) if everything else set()
    with TemporaryDirectory() as temporary:
        files = base(Path(temporary) / "base", *shards)
        new = [
            each if each.name not in changed else NewTensor(each.name, each.dtype, each.shape)
            for each in kept(files)
        ]
        codes = {name: code for code, name in TORCH_NAMES.items()}
        more = {f"new{number}": each for number, each in enumerate(added)}
        new += [
            NewTensor(name, codes[str(each.dtype)[6:]], tuple(each.shape))
            for name, each in more.items()
        ]
        everything |= more
        rewrites = [Given(name, everything[name]) for name in (*sorted(changed), *more)]
        folder = Path(temporary) / "new"
        folder.mkdir()
        told: list[int] = []
        layout = lay_out(files, new, most)
        write_layout(folder, layout, rewrites, told.append)
        found = written(folder)
        assert found.keys() == everything.keys()
        assert all(same(found[name], each) for name, each in everything.items())
        assert sum(told) == sum(each.size for each in new)
        assert len(layout) == len(list(folder.glob("*.safetensors")))
        if len(layout) > 1:
            index = json.loads((folder / INDEX).read_text("utf-8"))
            assert index["metadata"] == {"total_size": sum(each.size for each in new)}
            for name, file in index["weight_map"].items():
                assert name in load_file(folder / file)
            assert index["weight_map"].keys() == everything.keys()


def layout_of(checkpoint: Checkpoint, most: int | None = None) -> dict[str, list[str]]:
    found = lay_out(checkpoint, kept(checkpoint), most)
    return {file: [each.name for each in held] for file, held in found.items()}


def test_files_are_the_bases_own_unless_a_size_is_asked_for(tmp_path: Path) -> None:
    a, b, c = torch.zeros(3, 25)
    files = base(tmp_path / "base", {"a": a.clone(), "b": b.clone()}, {"c": c.clone()})
    own = {"part-0.safetensors": ["a", "b"], "part-1.safetensors": ["c"]}
    assert layout_of(files) == own
    assert layout_of(files, 100) == {
        f"model-0000{number}-of-00003.safetensors": [name]
        for number, name in enumerate("abc", start=1)
    }
    assert layout_of(files, 299) == {
        "model-00001-of-00002.safetensors": ["a", "b"],
        "model-00002-of-00002.safetensors": ["c"],
    }
    assert layout_of(files, 300) == {SINGLE: ["a", "b", "c"]}


def test_a_tensor_over_the_size_has_a_file_to_itself(tmp_path: Path) -> None:
    files = base(tmp_path / "base", {"a": torch.zeros(2), "b": torch.zeros(99), "c": torch.ones(2)})
    assert [*layout_of(files, 20).values()] == [["a"], ["b"], ["c"]]


def test_what_is_added_goes_into_the_last_file_and_what_is_gone_into_none(tmp_path: Path) -> None:
    files = base(tmp_path / "base", {"a": torch.zeros(2)}, {"b": torch.zeros(2)})
    new = [*kept(files)[:1], NewTensor("z", "F32", (3,))]
    found = lay_out(files, new, None)
    assert {file: [each.name for each in held] for file, held in found.items()} == {
        "part-0.safetensors": ["a"],
        "part-1.safetensors": ["z"],
    }
    assert list(lay_out(files, kept(files)[:1], None)) == [SINGLE]


def test_tensors_begin_where_readers_map_them(tmp_path: Path) -> None:
    """At a multiple of 8 bytes, and each one at a multiple of its numbers' size."""
    held = {
        "odd": torch.zeros(3, dtype=torch.int8),
        "half": torch.zeros(3, dtype=torch.bfloat16),
        "long": torch.zeros(3, dtype=torch.float64),
    }
    files = base(tmp_path / "base", held)
    write_layout(tmp_path, lay_out(files, kept(files), None), [])
    (length,) = struct.unpack("<Q", (tmp_path / SINGLE).read_bytes()[:8])
    assert length % 8 == 0
    for each in open_checkpoint(tmp_path).tensors.values():
        assert each.start % (each.size // 3) == 0


@pytest.mark.parametrize("missing", [True, False])
def test_copies_are_the_same_without_the_kernels_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    """On another system, or from one file system to another, bytes go through this process."""
    held = {"a": torch.randn(50), "b": torch.randn(7, 3)}
    files = base(tmp_path / "base", held)

    def elsewhere(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    if missing:
        monkeypatch.delattr(os, "copy_file_range")
    else:
        monkeypatch.setattr(os, "copy_file_range", elsewhere)
    monkeypatch.setattr(writing, "READ_AT_ONCE", 64)
    write_layout(tmp_path, lay_out(files, kept(files), None), [])
    assert all(written(tmp_path)[name].equal(each) for name, each in held.items())


def test_a_source_that_shrinks_is_an_error_and_no_endless_wait(tmp_path: Path) -> None:
    files = base(tmp_path / "base", {"a": torch.randn(50)})
    source = tmp_path / "base" / SINGLE
    source.write_bytes(source.read_bytes()[:-4])
    with pytest.raises(OSError, match="is shorter than its header says") as caught:
        write_layout(tmp_path, lay_out(files, kept(files), None), [])
    assert caught.value.filename == str(source)


def test_an_error_in_one_tensor_ends_the_writing(tmp_path: Path) -> None:
    class Broken(Given):
        def rows(self) -> Iterator[Rows]:
            raise ValueError("no number")

    files = base(tmp_path / "base", {"a": torch.randn(5)})
    layout = lay_out(files, [NewTensor("a", "F32", (5,))], None)
    with pytest.raises(ValueError, match="no number"):
        write_layout(tmp_path, layout, [Broken("a", torch.zeros(5))])


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    files = base(tmp_path, {"a": torch.randn(5)})
    before = (tmp_path / SINGLE).read_bytes()
    with pytest.raises(FileExistsError):
        write_layout(tmp_path, lay_out(files, kept(files), None), [])
    assert (tmp_path / SINGLE).read_bytes() == before


def test_torch_has_its_threads_again_afterwards(tmp_path: Path) -> None:
    """Each tensor is one core's while it is made."""
    seen: list[tuple[int, bool]] = []

    class Watched(Given):
        def rows(self) -> Iterator[Rows]:
            inside = threading.current_thread() is not threading.main_thread()
            seen.append((torch.get_num_threads(), inside))
            return super().rows()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        files = base(tmp_path / "base", {"a": torch.randn(5)})
        layout = lay_out(files, [NewTensor("a", "F32", (5,))], None)
        write_layout(tmp_path, layout, [Watched("a", torch.zeros(5))])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, True)]
