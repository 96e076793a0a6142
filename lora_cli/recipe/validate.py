"""Plain values → Recipe, or every problem at once in words a user can act on.

This module does not know YAML: positions come from a `Source`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lora_cli.errors import Problem
from lora_cli.recipe.fields import all_keys, field_names, sections_at
from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.source import KeyPath, Source, dotted
from lora_cli.recipe.suggest import closest, key_hint, value_hint


def validate(value: Any, source: Source) -> tuple[Recipe | None, list[Problem]]:
    """Return the recipe, or None and all problems, in the order they stand in the file."""
    if not isinstance(value, dict):
        hint = "write `model: …`, `adapter: …` and `dataset: …`, one under the other"
        return None, [Problem(source.of_value(()), f"a recipe is a mapping, not {_kind(value)}", hint)]
    try:
        return Recipe.model_validate(value), []
    except ValidationError as error:
        return None, _problems(error.errors(), value, source)


def _problems(errors: list[ErrorDetails], raw: Any, source: Source) -> list[Problem]:
    problems: list[Problem] = []
    reported: list[KeyPath] = []
    for error in sorted(errors, key=lambda error: -len(error["loc"])):
        path = _key_path(error, raw)
        shadowed = any(deeper[: len(path)] == path for deeper in reported)
        if error["type"] == "too_short" and shadowed:
            continue  # a consequence: the items that failed are missing from the list
        reported.append(path)
        problems.append(_problem(error, path, source))
        problems += _behind_unknown_member(error, path, raw, source)
    return sorted(problems, key=lambda problem: (problem.where.line, problem.where.column))


def _key_path(error: ErrorDetails, raw: Any) -> KeyPath:
    """Return the path as the user wrote it: no union tags, no index where no list stands."""
    path: KeyPath = ()
    node = raw
    for number, part in enumerate(error["loc"]):
        last = number == len(error["loc"]) - 1
        if isinstance(part, int):
            if isinstance(node, list | tuple) and part < len(node):
                path, node = (*path, part), node[part]
        elif isinstance(node, dict) and part in node:
            path, node = (*path, part), node[part]
        elif last and error["type"] == "missing":
            path = (*path, part)
    return path


def _behind_unknown_member(
    error: ErrorDetails, path: KeyPath, raw: Any, source: Source
) -> list[Problem]:
    """Return the problems in a section whose variant or method is unknown, read as the nearest."""
    node = error["input"]
    if not error["type"].startswith("union_tag") or not isinstance(node, dict):
        return []
    field = sections_at(path)[0].main_field
    allowed = _members(path)
    nearest = closest(str(node.get(field)), allowed, cutoff=0.0) or allowed[0]
    _, problems = validate(_replaced(raw, path, {**node, field: nearest}), source)
    inside = dotted(path) + "."
    return [problem for problem in problems if problem.where.key.startswith(inside)]


def _replaced(raw: Any, path: KeyPath, value: Any) -> Any:
    if not path:
        return value
    assert isinstance(raw, dict), "families stand in mappings"
    return {**raw, path[0]: _replaced(raw[path[0]], path[1:], value)}


def _members(path: KeyPath) -> list[str]:
    """Return the names of the members of the family at `path`: its variants, its methods."""
    names: dict[str, None] = {}
    for section in sections_at(path):
        annotation = section.model_fields[section.main_field].annotation
        names.update(dict.fromkeys(getattr(annotation, "__args__", ())))
    return list(names)


def _problem(error: ErrorDetails, path: KeyPath, source: Source) -> Problem:
    if error["type"] == "extra_forbidden":
        key = dotted(path)
        hint = key_hint(re.sub(r"\[\d+\]", "", key), field_names(path[:-1]), all_keys())
        return Problem(source.of_key(path), f"unknown key `{key}`", hint)
    if error["type"] == "missing":
        return _missing(path, source)
    if error["type"].startswith("union_tag"):
        return _unknown_member(error, path, source)
    describe = _MESSAGES.get(error["type"], _fallback)
    message, hint = describe(error)
    return Problem(source.of_value(path), f"`{dotted(path)}` {message}", hint)


def _missing(path: KeyPath, source: Source) -> Problem:
    examples = {"model": "model: NAME", "adapter": "adapter: lora", "dataset": "dataset: FILE.jsonl"}
    key = dotted(path)
    example = examples.get(key, f"{path[-1]}: …")
    return Problem(source.of_value(path[:-1]), f"`{key}` is missing", f"add `{example}`")


def _unknown_member(error: ErrorDetails, path: KeyPath, source: Source) -> Problem:
    allowed = _members(path)
    field = sections_at(path)[0].main_field
    value = error["input"]
    if isinstance(value, dict):
        if field not in value:
            hint = value_hint("", allowed)
            key = dotted((*path, field))
            return Problem(source.of_value(path), f"`{key}` is missing", hint)
        path, value = (*path, field), value[field]
    if not isinstance(value, str):
        message = f"`{dotted(path)}` must be one word, not {_kind(value)}"
        return Problem(source.of_value(path), message, value_hint("", allowed))
    message = f"`{dotted(path)}` has no `{value}`"
    return Problem(source.of_value(path), message, value_hint(value, allowed))


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return f"the number {value}" if isinstance(value, int | float) else f'the text "{value}"'


def _wrong_type(expected: str) -> Callable[[ErrorDetails], tuple[str, str]]:
    def describe(error: ErrorDetails) -> tuple[str, str]:
        value = error["input"]
        hint = ""
        if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?\d+)?", value.strip()):
            hint = f"remove the quotes: {value.strip()}" if "number" in expected else ""
        elif isinstance(value, str) and value.lower() in ("true", "false"):
            hint = f"remove the quotes: {value.lower()}" if "true" in expected else ""
        elif expected == "text" and not isinstance(value, dict | list):
            hint = f'put it in quotes: "{value}"'
        elif isinstance(value, list) and expected != "a list":
            hint = "write one value, without `- ` or brackets"
        elif expected == "a mapping":
            hint = "write `key: value` lines under it, indented"
        return f"must be {expected}, not {_kind(value)}", hint

    return describe


def _literal(error: ErrorDetails) -> tuple[str, str]:
    allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    hint = value_hint(error["input"], allowed)
    if "all-linear" in allowed:
        hint += ", a list of names, or {regex: …}"
    return f"cannot be {_kind(error['input'])}", hint


def _bound(text: str, limit: str) -> Callable[[ErrorDetails], tuple[str, str]]:
    def describe(error: ErrorDetails) -> tuple[str, str]:
        return f"must be {text} {error['ctx'][limit]}, not {error['input']}", ""

    return describe


def _fallback(error: ErrorDetails) -> tuple[str, str]:
    return f"is not valid: {error['msg']}", ""


_MESSAGES: dict[str, Callable[[ErrorDetails], tuple[str, str]]] = {
    "literal_error": _literal,
    "int_type": _wrong_type("a whole number"),
    "int_from_float": lambda error: (f"must be a whole number, not {error['input']}", ""),
    "float_type": _wrong_type("a number"),
    "string_type": _wrong_type("text"),
    "bool_type": _wrong_type("true or false"),
    "tuple_type": _wrong_type("a list"),
    "list_type": _wrong_type("a list"),
    "model_type": _wrong_type("a mapping"),
    "model_attributes_type": _wrong_type("a mapping"),
    "dict_type": _wrong_type("a mapping"),
    "greater_than": _bound("greater than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "finite_number": lambda error: (f"must be a finite number, not {error['input']}", ""),
    "string_too_short": lambda error: ("must not be empty", ""),
    "too_short": lambda error: ("must not be an empty list", ""),
}
