"""Checks across a recipe's fields that need nothing outside it: one small function each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lora_cli.adapters.low_rank import TargetRegex
from lora_cli.errors import Problem
from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.source import Source


def check_recipe(recipe: Recipe, source: Source) -> list[Problem]:
    """Return every problem between the recipe's fields."""
    return [problem for check in _CHECKS for problem in check(recipe, source)]


def _epochs_or_steps(recipe: Recipe, source: Source) -> Iterator[Problem]:
    if recipe.training.epochs is not None and recipe.training.steps is not None:
        message = "`training.steps` and `training.epochs` both say how long to train"
        yield Problem(source.of_key(("training", "steps")), message, "keep one of the two")


def _evaluation_rows(recipe: Recipe, source: Source) -> Iterator[Problem]:
    evaluation = recipe.evaluation
    if evaluation is None:
        return
    if evaluation.split is None and evaluation.path is None:
        message = "`evaluation` does not say on which rows"
        hint = "add `split: 0.1` (a share of the data) or `path: FILE.jsonl`"
        yield Problem(source.of_key(("evaluation",)), message, hint)
    if evaluation.split is not None and evaluation.path is not None:
        message = "`evaluation.split` and `evaluation.path` both name the rows"
        yield Problem(source.of_key(("evaluation", "split")), message, "keep one of the two")


def _regular_expression(recipe: Recipe, source: Source) -> Iterator[Problem]:
    target = recipe.adapter.target_modules
    if not isinstance(target, TargetRegex):
        return
    try:
        re.compile(target.regex)
    except re.error as error:
        where = source.of_value(("adapter", "target_modules", "regex"))
        message = f"`adapter.target_modules.regex` is not a regular expression: {error}"
        yield Problem(where, message, "Python's `re` syntax, matched against whole module names")


def _split_without_folder(recipe: Recipe, source: Source) -> Iterator[Problem]:
    for index, dataset in enumerate(recipe.dataset):
        if dataset.split is not None and dataset.path.endswith((".jsonl", ".json")):
            path = ("dataset", "split") if not source.wrote(("dataset", index)) else (
                "dataset", index, "split")
            message = f"`dataset.split` names a file in a folder, but `{dataset.path}` is a file"
            yield Problem(source.of_key(path), message, "remove `split`, or name the folder")


_CHECKS = (_epochs_or_steps, _evaluation_rows, _regular_expression, _split_without_folder)
