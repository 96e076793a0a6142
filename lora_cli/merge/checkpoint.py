"""A checkpoint's safetensors as they lie in their files: names, types, shapes and places.

Only headers are read, and then the rows that are asked for: a model of any size can be looked at.
What the tensors mean is not known here.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import RawIOBase
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from lora_cli.errors import MergeError, PlanError
from lora_cli.facts.weight_files import INDEX, weight_files

if TYPE_CHECKING:
    import torch

TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "C64": "complex64",
    "BOOL": "bool",
}
"""safetensors' names of types by torch's."""
FILE_NAMES = {name: code for code, name in TORCH_NAMES.items()}
FLOATS = ("F64", "F32", "F16", "BF16")
_SIZES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
}


def bytes_of(dtype: str) -> int:
    """Return how many bytes a number of safetensors' type takes."""
    return _SIZES.get(dtype, 1)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a file, by the place of its bytes."""

    name: str
    dtype: str
    """safetensors' name, such as `BF16`."""
    shape: tuple[int, ...]
    file: Path
    start: int
    """The first byte in the file."""

    @property
    def size(self) -> int:
        """Return how many bytes it takes."""
        return prod(self.shape) * bytes_of(self.dtype)

    def read(self) -> torch.Tensor:
        """Return the whole tensor, a copy.

        Raises:
            MergeError: its type is not known, or the file ends too early.
        """
        held = self._room(self.shape)
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start)
            self._fill(bytes_in(held), file)
        return held

    def blocks(self, rows: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Give the number of the first row, and the rows, so many at a time.

        Each block lies in memory where the one before it lay.

        Raises:
            MergeError: as for `read`.
        """
        outputs = self.shape[0]
        held = self._room((min(rows, outputs), *self.shape[1:]))
        view = bytes_in(held)
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start)
            for first in range(0, outputs, rows):
                if first + rows > outputs:  # the last rows
                    held = held[: outputs - first]
                    view = bytes_in(held)
                self._fill(view, file)
                yield first, held

    def _room(self, shape: Sequence[int]) -> torch.Tensor:
        import torch

        if self.dtype not in TORCH_NAMES:
            message = f"`{self.name}` is of a type not known here, {self.dtype}"
            raise MergeError(message, str(self.file))
        return torch.empty(tuple(shape), dtype=getattr(torch, TORCH_NAMES[self.dtype]))

    def _fill(self, view: memoryview, file: RawIOBase) -> None:
        while view:
            count = file.readinto(view)
            if not count:
                raise MergeError(f"ends inside `{self.name}`", str(self.file))
            view = view[count:]


def bytes_in(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a contiguous tensor."""
    import torch

    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a folder, those that transformers would load, and no others beside them."""

    folder: Path
    shards: Mapping[str, tuple[StoredTensor, ...]]
    """By the file's name, in the order in which they lie in it."""

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """Return all tensors by name."""
        return {tensor.name: tensor for shard in self.shards.values() for tensor in shard}


def open_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint in `folder`; only headers are read.

    Raises:
        MergeError: there is none, or a file is cut off or no safetensors file.
    """
    return Checkpoint(folder, {file.name: _header(file) for file in _files(folder)})


def _files(folder: Path) -> list[Path]:
    try:
        files = weight_files(folder)
    except PlanError as error:
        raise MergeError.from_problems(error.problems) from error
    absent = [file for file in files if not file.is_file()]
    if absent or not files:
        name = absent[0].name if absent else INDEX
        hint = "only safetensors weights are merged"
        raise MergeError(f"has no weights in {name}", str(folder), hint)
    return files


def _header(file: Path) -> tuple[StoredTensor, ...]:
    """Return a file's tensors in the order of their bytes."""
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(min(length, size)))
        header.pop("__metadata__", None)
        tensors = [
            StoredTensor(name, held["dtype"], tuple(held["shape"]), file, 8 + length + offset)
            for name, held in header.items()
            for offset in held["data_offsets"][:1]
        ]
        odd = [
            each for each in tensors if header[each.name]["data_offsets"][1] != _end(each, length)
        ]
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise MergeError(f"cannot be read: {error}", str(file)) from error
    if odd:
        message = f"`{odd[0].name}` is not as long as its type, {odd[0].dtype}, and shape say"
        raise MergeError(message, str(file), "only types of whole bytes are known here")
    if any(tensor.start + tensor.size > size for tensor in tensors):
        raise MergeError("is cut off: its header names more bytes than there are", str(file))
    return tuple(sorted(tensors, key=lambda tensor: tensor.start))


def _end(tensor: StoredTensor, header: int) -> int:
    """Return where a tensor should end, counted as the header of this length counts."""
    return tensor.start + tensor.size - 8 - header


def companions_size(folder: Path) -> int:
    """Return how many bytes the files beside the weights take."""
    return sum(
        entry.stat().st_size
        for entry in os.scandir(folder)
        if entry.is_file() and not entry.name.endswith((".safetensors", ".bin", ".gguf"))
    )
