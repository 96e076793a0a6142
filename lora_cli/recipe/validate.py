"""Plain values → Recipe, or every problem at once in words a user can act on.

This module does not know YAML: positions come from a `Source`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lora_cli.errors import Problem
from lora_cli.recipe.checks import check_values
from lora_cli.recipe.fields import has_tagged_items, is_tagged, sections_at
from lora_cli.recipe.keys import KeyReader
from lora_cli.recipe.messages import describe, missing_hint
from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.source import UNREADABLE, KeyPath, Source, dotted
from lora_cli.recipe.wording import kind


def validate(value: Any, source: Source) -> tuple[Recipe | None, list[Problem]]:
    """Return the recipe, or None and all problems; None alone for what could not be read."""
    if value is UNREADABLE:
        return None, []
    if not isinstance(value, dict):
        message = f"a recipe is a mapping, not {kind(value, source.text(()))}"
        hint = "write `model: …`, `adapter: …` and `dataset: …`, one under the other"
        return None, [Problem(source.of_value(()), message, hint)]
    keys = KeyReader(source)
    meant = keys.read(value, (), (Recipe,))
    recipe, errors = _parsed(meant)
    problems = [
        *keys.problems,
        *_schema_problems(errors, meant, keys),
        *check_values(meant, keys.source),
    ]
    return (None if problems else recipe), problems


def _parsed(value: dict[str, Any]) -> tuple[Recipe | None, list[ErrorDetails]]:
    try:
        return Recipe.model_validate(value), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _schema_problems(errors: list[ErrorDetails], value: Any, keys: KeyReader) -> list[Problem]:
    problems: list[Problem] = []
    paths = [_key_path(error, value) for error in errors]
    failed_below = {
        error["loc"][:length] for error in errors for length in range(len(error["loc"]))
    }
    for error, path in zip(errors, paths, strict=True):
        # a list whose items failed is empty only because of them
        if error["type"] == "too_short" and error["loc"] in failed_below:
            continue
        if error["input"] is not UNREADABLE:
            problems += _problem(error, path, keys)
    return problems


def _key_path(error: ErrorDetails, value: Any) -> KeyPath:
    """Return the path as the user wrote it: no union tags, no index where no list stands."""
    path: KeyPath = ()
    node = value
    tag_follows = False
    for part in error["loc"]:
        if tag_follows:
            tag_follows = False
        elif isinstance(part, int):
            if isinstance(node, list | tuple):
                tag_follows = has_tagged_items(path)
                path, node = (*path, part), node[part]
        elif isinstance(node, dict):
            path, node = (*path, part), node.get(part)
            tag_follows = is_tagged(path)
    return path


def _problem(error: ErrorDetails, path: KeyPath, keys: KeyReader) -> list[Problem]:
    key = dotted(path)
    if error["type"] == "missing":
        if keys.suggested & _names_of(path):
            return []  # it is there under a name that is a problem already
        place = keys.source.of_value(path[:-1])
        return [Problem(replace(place, key=key), f"`{key}` is missing", missing_hint(path))]
    message, hint = describe(error, path, keys.source.text(path))
    return [Problem(keys.source.of_value(path), f"`{key}` {message}", hint)]


def _names_of(path: KeyPath) -> set[str]:
    """Return the keys that stand for `path`: itself, and what its shorthand stands for."""
    key = dotted(tuple(part for part in path if isinstance(part, str)))
    return {key, *(f"{key}.{section.main_field}" for section in sections_at(path))}
