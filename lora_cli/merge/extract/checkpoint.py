"""A model's weights in safetensors files, read a few rows of a tensor at a time.

A file is open only while one of its tensors is read: pages that stay mapped count as memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lora_cli.errors import ExtractError, PlanError
from lora_cli.facts.weight_files import INDEX, weight_files

if TYPE_CHECKING:
    import torch

    Rows = tuple[int, torch.Tensor, torch.Tensor]

BLOCK = 2**20
"""Most numbers of a tensor that are read at once, one row at the least."""


class Checkpoint:
    """The tensors of a model's files by name, in one file or in shards."""

    def __init__(self, folder: Path) -> None:
        """Read the files' headers.

        Raises:
            ExtractError: a file is missing or broken.
        """
        self.folder = folder
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for file in _weight_files(folder):
            for name, shape in _shapes(file).items():
                self._files[name], self._shapes[name] = file, shape

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors, file by file."""
        return tuple(self._files)

    def file(self, name: str) -> Path:
        """Return the file that a tensor is in."""
        return self._files[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self._shapes[name]

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor."""
        from safetensors import safe_open

        with safe_open(self.file(name), framework="pt") as tensors:
            found: torch.Tensor = tensors.get_tensor(name)
        return found


def rows_of_both(left: Checkpoint, name: str, right: Checkpoint, right_name: str) -> Iterator[Rows]:
    """Yield a tensor of each, of one shape, some rows at a time: the first row's number, and both.

    A number alone is one row of one.
    """
    from safetensors import safe_open

    shape = left.shape(name)
    with (
        safe_open(left.file(name), framework="pt") as left_file,
        safe_open(right.file(right_name), framework="pt") as right_file,
    ):
        parts = left_file.get_slice(name), right_file.get_slice(right_name)
        if not shape:
            yield 0, *(part[...].reshape(1) for part in parts)
            return
        for rows in _blocks(shape):
            yield rows.start, *(part[rows] for part in parts)


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, BLOCK // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers would load, and no others that lie beside them."""
    try:
        files = weight_files(folder)
    except PlanError as error:
        raise ExtractError.from_problems(error.problems) from error
    absent = [file.name for file in files if not file.is_file()]
    if absent or not files:
        message = f"has no weights in {absent[0] if absent else INDEX}"
        raise ExtractError(message, str(folder), "only safetensors and GGUF weights are read")
    return files


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            names = tensors.keys()
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise ExtractError(f"cannot be read: {error}", str(file)) from error
