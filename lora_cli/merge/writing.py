"""A checkpoint's files, written tensor by tensor, each to its place; most are copied as they are.

What a changed tensor holds is told by its `Rewrite`, a few rows at a time where it can. Memory is
bounded by the rows that are in work, never by the model. The cores share the tensors among them.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lora_cli.facts.weight_files import INDEX, SINGLE
from lora_cli.files import write_text
from lora_cli.merge.checkpoint import Checkpoint, StoredTensor, bytes_in, bytes_of

if TYPE_CHECKING:
    import torch

COPIED_AT_ONCE, READ_AT_ONCE = 1 << 26, 1 << 22
ALIGNMENT = 8
"""safetensors files begin their tensors at a multiple of this many bytes."""


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    copied: StoredTensor | None = None
    """Whose bytes it has; None where a rewrite makes them."""

    @property
    def size(self) -> int:
        """Return how many bytes it takes."""
        return prod(self.shape) * bytes_of(self.dtype)


class Rows(NamedTuple):
    """Rows of a new tensor, in its own type."""

    name: str
    first: int
    values: torch.Tensor


class Rewrite(Protocol):
    """Makes new tensors; asked once, on any thread."""

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the tensors it makes."""
        ...

    def rows(self) -> Iterator[Rows]:
        """Give all rows of all its tensors; those that are given next may overwrite them."""
        ...


Layout = Mapping[str, Sequence[NewTensor]]
"""The tensors of each file by its name, in the order of their bytes."""


def lay_out(base: Checkpoint, new: Sequence[NewTensor], max_shard_bytes: int | None) -> Layout:
    """Return which tensor stands in which file: as in the base's files, or in files of a size.

    A tensor that the base does not have goes into the last file.
    """
    if max_shard_bytes is None:
        files = {name: [tensor.name for tensor in shard] for name, shard in base.shards.items()}
        by_name = {tensor.name: tensor for tensor in new}
        shards = [
            [by_name.pop(name) for name in names if name in by_name] for names in files.values()
        ]
        shards[-1] += by_name.values()
    else:
        shards = _filled(new, max_shard_bytes)
    shards = [shard for shard in shards if shard]
    if max_shard_bytes is None and len(shards) == len(base.shards):
        names = list(base.shards)
    elif len(shards) == 1:
        names = [SINGLE]
    else:
        count = len(shards)
        names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    # numbers of more bytes first, as safetensors itself lays them, so that each one is aligned
    widest_first = [sorted(shard, key=lambda tensor: -bytes_of(tensor.dtype)) for shard in shards]
    return dict(zip(names, widest_first, strict=True))


def _filled(tensors: Sequence[NewTensor], most: int) -> list[list[NewTensor]]:
    shards: list[list[NewTensor]] = [[]]
    held = 0
    for tensor in tensors:
        if shards[-1] and held + tensor.size > most:
            shards.append([])
            held = 0
        shards[-1].append(tensor)
        held += tensor.size
    return shards


def write_layout(
    folder: Path,
    layout: Layout,
    rewrites: Sequence[Rewrite],
    report: Callable[[int], None] = lambda _bytes: None,
) -> None:
    """Write the files of `layout` into `folder`, and their index if there are several.

    `report` is told of bytes as they are written, from any thread.
    """
    with ExitStack() as stack:
        files = []
        for name, tensors in layout.items():
            handle = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            stack.callback(os.close, handle)
            files.append(_File(handle, _begin(handle, tensors)))
        _run_all(files, _jobs(layout, rewrites, files), report)
    if len(layout) > 1:
        write_text(folder / INDEX, json.dumps(_index(layout), indent=2) + "\n")


class _Place(NamedTuple):
    """Where a tensor's bytes go: an open file, and the first byte in it."""

    handle: int
    start: int


class _File(NamedTuple):
    """A file that is being written."""

    handle: int
    places: Mapping[str, _Place]


class _Job(Protocol):
    def run(self, report: Callable[[int], None]) -> None: ...


def _jobs(
    layout: Layout, rewrites: Sequence[Rewrite], files: Sequence[_File]
) -> Sequence[Sequence[_Job]]:
    """Return what is to be done until each file is whole, file by file."""
    places = {name: place for file in files for name, place in file.places.items()}
    turn = {name: number for number, file in enumerate(files) for name in file.places}
    jobs: list[list[_Job]] = [[] for _ in files]
    # what is computed goes first: the copies fill up the time at the end
    for rewrite in rewrites:
        jobs[max(turn[name] for name in rewrite.names)].append(_Made(rewrite, places))
    for number, tensors in enumerate(layout.values()):
        copies = [
            _Copy(tensor.copied.file, tensor.copied.start, places[tensor.name], tensor.size)
            for tensor in tensors
            if tensor.copied is not None
        ]
        jobs[number] += _in_runs(copies)
    return jobs


def _run_all(
    files: Sequence[_File], jobs: Sequence[Sequence[_Job]], report: Callable[[int], None]
) -> None:
    """Do all jobs; a file that is whole goes to the disk while the next ones are computed."""
    with _one_thread_each(), ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [[pool.submit(job.run, report) for job in each] for each in jobs]
        try:
            for file, its in zip(files, running, strict=True):
                for job in its:
                    job.result()
                os.fsync(file.handle)
        finally:
            for job in chain.from_iterable(running):
                job.cancel()


def _begin(handle: int, tensors: Sequence[NewTensor]) -> dict[str, _Place]:
    """Write a file's header and give it its size; return where its tensors go."""
    start = _write_header(handle, tensors)
    places = {}
    for tensor in tensors:
        places[tensor.name] = _Place(handle, start)
        start += tensor.size
    os.ftruncate(handle, start)
    return places


def _index(layout: Layout) -> dict[str, object]:
    size = sum(tensor.size for tensors in layout.values() for tensor in tensors)
    files = {tensor.name: name for name, tensors in layout.items() for tensor in tensors}
    return {"metadata": {"total_size": size}, "weight_map": dict(sorted(files.items()))}


def _write_header(handle: int, tensors: Sequence[NewTensor]) -> int:
    """Write what a safetensors file begins with; return where its first tensor begins."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.size
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    _write_all(handle, memoryview(struct.pack("<Q", len(text)) + text), 0)
    return 8 + len(text)


def _write_all(handle: int, content: memoryview, offset: int) -> None:
    while content:
        count = os.pwrite(handle, content, offset)
        content, offset = content[count:], offset + count


@dataclass(frozen=True, slots=True)
class _Copy:
    """Bytes that go from one file to another as they are."""

    file: Path
    start: int
    place: _Place
    size: int

    def run(self, report: Callable[[int], None]) -> None:
        with self.file.open("rb", buffering=0) as source:
            done = 0
            while done < self.size:
                count = self._copy(source.fileno(), done)
                if not count:
                    raise OSError(0, "is shorter than its header says", str(self.file))
                done += count
                report(count)

    def _copy(self, source: int, done: int) -> int:
        """Copy some of what is left, inside the kernel where it can; return how many bytes."""
        start, offset = self.start + done, self.place.start + done
        due = min(self.size - done, COPIED_AT_ONCE)
        try:
            return os.copy_file_range(source, self.place.handle, due, start, offset)
        except (AttributeError, OSError):  # another system, or two file systems
            content = os.pread(source, min(due, READ_AT_ONCE), start)
            _write_all(self.place.handle, memoryview(content), offset)
            return len(content)


def _in_runs(copies: Sequence[_Copy]) -> Iterator[_Copy]:
    """Give copies of neighbours as one, up to a size that the cores can still share."""
    run: _Copy | None = None
    for copy in copies:
        if (
            run is not None
            and (run.file, run.place.handle) == (copy.file, copy.place.handle)
            and (run.start + run.size, run.place.start + run.size) == (copy.start, copy.place.start)
            and run.size + copy.size <= COPIED_AT_ONCE
        ):
            run = _Copy(run.file, run.start, run.place, run.size + copy.size)
            continue
        if run is not None:
            yield run
        run = copy
    if run is not None:
        yield run


@dataclass(frozen=True, slots=True)
class _Made:
    """Tensors that are made anew."""

    rewrite: Rewrite
    places: Mapping[str, _Place]

    def run(self, report: Callable[[int], None]) -> None:
        last, content = None, memoryview(b"")
        for name, first, values in self.rewrite.rows():
            handle, start = self.places[name]
            if values is not last or not values.is_contiguous():  # else the same memory, new values
                last, content = values, bytes_in(values.detach().contiguous())
            size = len(content)
            row = size // max(1, values.shape[0]) if values.ndim else size
            _write_all(handle, content, start + first * row)
            report(size)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let each tensor be computed by one core: they share the tensors, not the products."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
