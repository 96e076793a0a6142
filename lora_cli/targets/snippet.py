"""A choice of modules as the part of a recipe that says it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lora_cli.adapters.targeted import TargetRegex
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.recipe.scalars import read_scalar
from lora_cli.recipe.schema import Recipe
from lora_cli.targets.barred import Barred, barred
from lora_cli.targets.cost import Choice, settle
from lora_cli.targets.names import is_meant

_SHOWN = ("variant", "rank", "target_modules")
"""What a snippet says of an adapter, also where it is the default."""


def snippet(recipe: Recipe, tasks: Sequence[str], choice: Choice, base: BaseModelFacts) -> str:
    """Return `model`, `adapter` and `quantization` as YAML, to be pasted into a recipe."""
    lines = [f"model: {_flow(recipe.model.name)}"]
    if tasks and tasks[0] != "causal_lm":
        lines.append(f"task: {tasks[0]}")
    lines.append("adapter:")
    found = left_out(choice, base)
    lines += [f"  # {each.why}" for each in found]
    lines += [f"  {name}: {_flow(value)}" for name, value in _fields(recipe, found).items()]
    if recipe.quantization is not None:
        lines.append(f"quantization: {recipe.quantization.method}")
    return "\n".join(lines) + "\n"


def left_out(choice: Choice, base: BaseModelFacts) -> tuple[Barred, ...]:
    """Return what has to be left out; nothing where modules are named, or left out as a pattern."""
    excluding = getattr(choice.spec, "exclude_modules", ())
    named = isinstance(getattr(choice.spec, "target_modules", ""), tuple)
    if named or not isinstance(excluding, tuple):
        return ()
    return tuple(barred(choice.spec, (each.name for each in choice.matched.modules), base))


def as_printed(choice: Choice, base: BaseModelFacts) -> Choice:
    """Return the choice of the snippet: without what it leaves out."""
    names = [name for each in left_out(choice, base) for name in each.names]
    if not names:
        return choice
    matched = choice.matched
    modules = tuple(each for each in matched.modules if not is_meant(each.name, names))
    return settle(choice.spec, replace(matched, modules=modules), base)


def _fields(recipe: Recipe, without: Sequence[Barred]) -> dict[str, Any]:
    """Return the adapter's fields that the recipe says, and those that are always said."""
    asked, known = recipe.adapter, type(recipe.adapter).model_fields
    names = [name for name in _SHOWN if name in known]
    names += [name for name in known if name in asked.model_fields_set and name not in names]
    fields = {name: _plain(getattr(asked, name)) for name in names}
    if without:
        names = [name for each in without for name in each.names]
        fields["exclude_modules"] = [*fields.get("exclude_modules", ()), *names]
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, TargetRegex):
        return {"regex": value.regex}
    return list(value) if isinstance(value, tuple) else value


def _flow(value: Any) -> str:
    """Return a value as YAML reads it on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow(key)}: {_flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, str) and not _is_bare(value):
        # within single quotes a backslash is itself: expressions stay as they are
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)


def _is_bare(text: str) -> bool:
    """Return whether recipes and other readers of YAML take the text for itself, on any line."""
    import yaml

    plain = re.fullmatch(r"([A-Za-z_]|~?/|\.\.?/)[\w./~-]*", text, re.ASCII) is not None
    return plain and yaml.safe_load(text) == text == read_scalar(text)
