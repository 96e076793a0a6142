"""Options of a command that stand for `--set`: what is wrong with a value is said of the option.

Options are known by the `--set` that they amount to: `{"--set adapter.rank=0": "--rank 0"}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lora_cli.errors import Problem, Where
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.recipe.source import KeyPath
from lora_cli.recipe.wording import shown


def by_override(options: Mapping[str, str]) -> dict[str, str]:
    """Return options by `--set key=value`, as errors have it; they are given by `key=value`."""
    return {f"--set {shown(override)}": typed for override, typed in options.items()}


def placed(loaded: LoadedRecipe, options: Mapping[str, str]) -> LoadedRecipe:
    """Return a recipe whose values stand at the options that gave them."""
    keys, values = (_places(each, options) for each in (loaded.source.keys, loaded.source.values))
    return replace(loaded, source=replace(loaded.source, keys=keys, values=values))


def at_options(problems: Iterable[Problem], options: Mapping[str, str]) -> list[Problem]:
    """Return problems at the options that gave the values."""
    return [replace(each, where=_place(each.where, options)) for each in problems]


def _places(places: Mapping[KeyPath, Where], options: Mapping[str, str]) -> dict[KeyPath, Where]:
    return {path: _place(where, options) for path, where in places.items()}


def _place(where: Where, options: Mapping[str, str]) -> Where:
    return replace(where, file=options.get(where.file, where.file))
