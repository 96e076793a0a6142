"""A pydantic error → what is wrong with the value, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic_core import ErrorDetails

from lora_cli.recipe.fields import field_at, sections_at
from lora_cli.recipe.scalars import FLOAT, INTEGER
from lora_cli.recipe.source import KeyPath, dotted
from lora_cli.recipe.suggest import value_hint
from lora_cli.recipe.wording import given, kind, shown

_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "a mapping",
    "dict_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_NOTHING = frozenset(("false", "no", "off", "none", "null", "nil"))
_EXAMPLES = {"model": "model: NAME", "adapter": "adapter: lora", "dataset": "dataset: FILE.jsonl"}


def describe(error: ErrorDetails, path: KeyPath, written: str) -> tuple[str, str]:
    """Return what is wrong with the value at `path`, and a hint; `written` is its text if bare."""
    code, value = error["type"], error["input"]
    if code in _EXPECTED:
        return _wrong_type(_EXPECTED[code], value, path, written)
    if code in _BOUNDS:
        text, limit = _BOUNDS[code]
        bound = error["ctx"][limit]
        bound = int(bound) if bound == int(bound) else bound
        message = f"must be {text} {bound}, not {given(value, written)}"
        return message, _bound_hint(value, bound, path)
    if code == "literal_error":
        return f"cannot be {kind(value, written)}", _choice_hint(error, path)
    if code == "finite_number":
        return f"must be a finite number, not {given(value, written)}", _default_hint(path)
    if code in ("string_too_short", "too_short"):
        empty = "an empty text" if isinstance(value, str) else "an empty list"
        return f"must not be {empty}", _default_hint(path) or "give it a value"
    return f"is not valid: {error['msg']}", _default_hint(path)


def missing_hint(path: KeyPath) -> str:
    """Return what to add for the missing key at `path`."""
    key = dotted(path)
    return f"add `{_EXAMPLES.get(key, f'{path[-1]}: …')}`"


def _wrong_type(expected: str, value: Any, path: KeyPath, written: str) -> tuple[str, str]:
    sections = sections_at(path)
    main = sections[0].main_field if sections else ""
    hint = _type_hint(expected, value, written)
    if str(value).lower() in _NOTHING and expected != "true or false" and _is_optional(path):
        hint = "leave the line out for the default" + (f"; else {hint}" if hint else "")
    if not main:
        message = f"must be {expected}, not {kind(value, written)}"
        return message, hint or _default_hint(path)
    own = f"its `{main}`" if expected == "a mapping" else f"{expected} for its `{main}`"
    message = f"must be a mapping, or {own}, not {kind(value, written)}"
    return (
        message,
        hint or f"a bare value is `{dotted((*path, main))}`: write a mapping for the rest",
    )


def _type_hint(expected: str, value: Any, written: str) -> str:
    if isinstance(value, list):
        keys = expected == "a mapping" and value and isinstance(value[0], dict)
        return "remove the `- `" if keys else "write one value, without `- ` or brackets"
    if isinstance(value, dict):
        quotes = "; text that begins with `{` or holds `: ` stands in quotes"
        return "write one value" + quotes * (expected == "text")
    hints: dict[str, Callable[[Any], str]] = {
        "a whole number": _whole_number_hint,
        "a number": _number_hint,
        "true or false": _boolean_hint,
        "text": lambda value: f'put it in quotes: "{given(value, written)}"',
        "a list": lambda value: f"write it in brackets: [{given(value, written)}]",
        "a mapping": lambda value: "write `key: value` lines under it, indented",  # noqa: ARG005
    }
    return hints[expected](value) if expected in hints else ""


def _whole_number_hint(value: Any) -> str:
    if isinstance(value, float):
        exact = value.is_integer() and abs(value) < 1e15
        return f"write {value:.0f}" if exact else "without point or exponent"
    text = str(value).strip()
    if INTEGER.fullmatch(text):
        return f"remove the quotes: {shown(text)}"
    return "write digits only, like 1000" if text[:1].isdigit() else ""


def _number_hint(value: Any) -> str:
    text = str(value).strip()
    if FLOAT.fullmatch(text):
        return f"remove the quotes: {shown(text)}"
    if percentage := re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%", text):
        return f"write {float(percentage[1]) / 100:g}"
    point = text.replace(",", ".")
    if FLOAT.fullmatch(point):
        return f"write {shown(point)}, with a decimal point"
    return "write a number, like 0.5 or 2e-4" if text[:1].isdigit() else ""


def _boolean_hint(value: Any) -> str:
    word = str(value).lower()
    if word in ("true", "yes", "on", "y", "1"):
        return "write true, without quotes"
    return "write false, without quotes" if word in ("false", "no", "off", "n", "0") else ""


def _choice_hint(error: ErrorDetails, path: KeyPath) -> str:
    allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    sections = sections_at(path)
    main = sections[0].main_field if sections else ""
    key = dotted(tuple(part for part in (*path, main) if isinstance(part, str) and part))
    hint = value_hint(key, error["input"], allowed)
    # a list of names and a mapping have errors of their own
    if allowed == ["experts"]:
        return f"{hint}, or a list of names"
    return f"{hint}, a list of names, or {{regex: …}}" if "all-linear" in allowed else hint


def _bound_hint(value: Any, bound: Any, path: KeyPath) -> str:
    if bound == 1 and value >= 2:
        return "for 10 % write 0.1"
    return _default_hint(path)


def _is_optional(path: KeyPath) -> bool:
    info = field_at(path)
    return info is not None and not info.is_required()


def _default_hint(path: KeyPath) -> str:
    info = field_at(path)
    if info is None or info.is_required():
        return ""
    if isinstance(info.default, str | int | float):
        return f"left out, it is {str(info.default).lower()}"
    return "or leave it out"
