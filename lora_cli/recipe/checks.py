"""Checks across a recipe's fields that need nothing outside it: one small function each.

They read plain values, not a `Recipe`: they then speak up beside any other problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lora_cli.errors import Problem
from lora_cli.recipe.fields import field_at
from lora_cli.recipe.format_checks import check_formats
from lora_cli.recipe.scalars import DISPUTED_BOOLEANS
from lora_cli.recipe.source import Source
from lora_cli.recipe.wording import kind, shown


def check_values(values: Mapping[str, Any], source: Source) -> list[Problem]:
    """Return every problem between the recipe's fields."""
    return [problem for check in _CHECKS for problem in check(values, source)]


def _epochs_or_steps(values: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    if {"epochs", "steps"} <= _section(values, "training").keys():
        message = "`training.steps` and `training.epochs` both say how long to train"
        where = source.of_key(("training", "steps"))
        hint = "keep one of the two"
        if where.file.startswith("--set"):
            hint += "; the flag can set `training.epochs` too, which takes fractions"
        yield Problem(where, message, hint)


def _evaluation_rows(values: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    evaluation = values.get("evaluation")
    if not isinstance(evaluation, dict):
        return
    if evaluation.keys().isdisjoint(("split", "path", "split_name")):
        message = "`evaluation` does not say on which rows"
        hint = "add `split: 0.1` (a share of the data), `path: FILE.jsonl` or `split_name: test`"
        yield Problem(source.of_key(("evaluation",)), message, hint)
    other = next((field for field in ("path", "split_name") if field in evaluation), None)
    if other and "split" in evaluation:
        message = f"`evaluation.split` and `evaluation.{other}` both name the rows"
        yield Problem(source.of_key(("evaluation", "split")), message, "keep one of the two")


def _mixing(values: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """Weights and a temperature each say how sources are mixed: of several, and one of the two."""
    datasets = values.get("dataset")
    several = datasets if isinstance(datasets, list) else [datasets]
    weighted = [i for i, each in enumerate(several) if isinstance(each, dict) and "weight" in each]
    by_temperature = "sampling_temperature" in _section(values, "training")
    item = ("dataset", weighted[0]) if isinstance(datasets, list) and weighted else ("dataset",)
    at_weight = source.of_key((*item, "weight")) if weighted else None
    at_temperature = source.of_key(("training", "sampling_temperature"))
    mixed = [(at_weight, "a weight")] if at_weight else []
    mixed += [(at_temperature, "a sampling temperature")] if by_temperature else []
    if len(several) == 1:
        for where, what in mixed:
            yield Problem(where, f"{what} mixes several sources, and there is one", "remove it")
    elif at_weight and by_temperature:
        message = "weights and `training.sampling_temperature` both say how sources are mixed"
        yield Problem(at_temperature, message, "keep one of the two")
    elif at_weight and len(weighted) < len(several):
        first = next(i for i in range(len(several)) if i not in weighted)
        message = f"`dataset[{first}]` has no weight, and others have one"
        yield Problem(at_weight, message, "give every source a weight, or none")


def _regular_expressions(values: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    adapter = _section(values, "adapter")
    hint = "Python's `re` syntax, matched against whole module names"
    for field in ("target_modules", "exclude_modules"):
        regex = _section(adapter, field).get("regex")
        if isinstance(regex, str) and (reason := _fault(regex)):
            where = source.of_value(("adapter", field, "regex"))
            message = f"`adapter.{field}.regex` is not a regular expression: {reason}"
            yield Problem(where, message, hint)
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern in _section(adapter, field):
            if isinstance(pattern, str) and (reason := _fault(pattern)):
                where = source.of_key(("adapter", field, pattern))
                message = f"the pattern `{shown(pattern)}` is not a regular expression: {reason}"
                yield Problem(where, message, hint.replace("whole module", "the end of module"))


def _fault(regex: str) -> str:
    """Return what is wrong with a regular expression; empty if nothing is."""
    try:
        re.compile(regex)
    except (re.error, RecursionError, OverflowError) as error:
        return shown(str(error))
    return ""


def _split_of_a_file(values: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    datasets = values.get("dataset")
    for index, dataset in enumerate(datasets if isinstance(datasets, list) else [datasets]):
        path = dataset.get("path") if isinstance(dataset, dict) else None
        if isinstance(path, str) and path.endswith((".jsonl", ".json")) and "split" in dataset:
            item = (index,) if isinstance(datasets, list) else ()
            where = source.of_key(("dataset", *item, "split"))
            message = f"`{where.key}` names a file in a folder, but `{shown(path)}` is a file"
            yield Problem(where, message, "remove `split`, or name the folder")


def _disputed_booleans(_values: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """Find a bare `yes` where `true` belongs; any other field refuses a boolean by itself."""
    for path, written in source.written.items():
        info = field_at(path) if written in DISPUTED_BOOLEANS else None
        if info is not None and info.annotation is bool:
            value, where = DISPUTED_BOOLEANS[written], source.of_value(path)
            message = f"`{where.key}` must be true or false, not {kind(value, written)}"
            yield Problem(where, message, f"write {str(value).lower()}")


def _section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the mapping under `key`; an empty one if none stands there."""
    section = values.get(key)
    return section if isinstance(section, dict) else {}


_CHECKS = (
    _epochs_or_steps,
    _evaluation_rows,
    _mixing,
    _regular_expressions,
    _split_of_a_file,
    _disputed_booleans,
    check_formats,
)
