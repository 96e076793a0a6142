"""What a model's safetensors files say of themselves: only their headers are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import PlanError, Problem, Where
from lora_cli.facts.model_source import ModelSource
from lora_cli.words import reason_of

LONGEST_HEADER = 100 << 20
"""What safetensors reads of one; a longer one is no header."""
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

_FETCH_HINT = "fetch the file again; a clone without Git LFS holds only pointers to the files"
_OTHER_MODEL_HINT = "config.json and the weights are of two models"


def check_weight_files(source: ModelSource, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise if training would find the weights broken, or of other `shapes` than the model's.

    Tensors that are in the files or in the model only are left to training, which knows what
    transformers renames. Hub files that were not fetched yet are not there to check.

    Raises:
        PlanError: with a problem for each file.
    """
    if source.weights != "safetensors":
        return
    files = weight_files(source.folder)
    if source.kind == "hub":
        files = [file for file in files if file.is_file()]
    problems = [problem for file in files if (problem := _problem_of(file, shapes))]
    if problems:
        raise PlanError.from_problems(problems)


def stored_names(source: ModelSource) -> frozenset[str]:
    """Return the names of a model's tensors; none where its files are not there to be read."""
    if source.weights != "safetensors":
        return frozenset()
    names: set[str] = set()
    for file in weight_files(source.folder):
        try:
            names.update(_stored_shapes(file))
        except Exception:  # noqa: BLE001  # `check_weight_files` says what is wrong with it
            return frozenset()
    return frozenset(names)


@dataclass(frozen=True, slots=True)
class StoredSize:
    """How much of a file one tensor is."""

    numbers: int
    stored_bytes: int


def stored_sizes(source: ModelSource) -> tuple[StoredSize, ...]:
    """Return the sizes of a model's tensors; none where its files are not there to be read."""
    if source.weights != "safetensors":
        return ()
    try:
        return tuple(size for file in weight_files(source.folder) for size in _sizes_in(file))
    except (PlanError, OSError, ValueError, TypeError, KeyError):
        return ()


def _sizes_in(file: Path) -> list[StoredSize]:
    """Return the sizes in a file's header: its length in 8 bytes, then JSON."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(min(length, LONGEST_HEADER)))
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    return [
        StoredSize(math.prod(each["shape"]), each["data_offsets"][1] - each["data_offsets"][0])
        for each in tensors
    ]


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers would read: one, or those that an index names.

    Raises:
        PlanError: the index is none.
    """
    index = folder / INDEX
    if (folder / SINGLE).is_file() or not index.is_file():
        return [folder / SINGLE]
    try:
        names = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(names))]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        message = f"is no index of weights: {reason_of(error)}"
        raise PlanError(message, str(index), _FETCH_HINT) from error


def _problem_of(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> Problem | None:
    where = Where(str(file))
    if not file.is_file():
        return Problem(where, "is missing among the weights", _FETCH_HINT)
    try:
        stored = _stored_shapes(file)
    except Exception as error:  # noqa: BLE001  # safetensors raises a class of its own, and OSError
        return Problem(where, f"is no whole safetensors file: {reason_of(error)}", _FETCH_HINT)
    odd = [name for name, shape in stored.items() if shapes.get(name, shape) != shape]
    if not odd:
        return None
    name, more = odd[0], f", and {len(odd) - 1} more do not fit" if odd[1:] else ""
    message = f"`{name}` is {stored[name]}, but config.json makes it {shapes[name]}{more}"
    return Problem(where, message, _OTHER_MODEL_HINT)


def _stored_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes in a file's header, which is held against the file's size."""
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as tensors:
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
