"""What a model's safetensors files say of themselves: only their headers are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lora_cli.errors import PlanError, Problem, Where
from lora_cli.facts.model_source import ModelSource
from lora_cli.words import reason_of

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
