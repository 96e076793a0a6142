"""`--set a.b=value`: values from the command line, through the same validation as the file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from lora_cli.errors import Problem, Where
from lora_cli.recipe.fields import sections_at
from lora_cli.recipe.source import KeyPath, dotted
from lora_cli.recipe.yaml_tree import Tree, read_tree

_PART = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)((?:\[\d+\])*)")


def apply_overrides(tree: Tree, overrides: Iterable[str]) -> None:
    """Set each `key=value` in the tree, noting the flag as its place and any problem with it."""
    for override in overrides:
        flag = f"--set {override}"
        key, equals, text = override.partition("=")
        path = _parse_path(key.strip())
        if not equals or path is None:
            hint = "write --set section.key=value, for example --set training.learning_rate=1e-4"
            tree.problems.append(Problem(Where(flag), "is not `key=value`", hint))
            continue
        parsed = read_tree(text, flag)
        places = [Problem(Where(flag, key=dotted(path)), p.message, p.hint) for p in parsed.problems]
        tree.problems.extend(places)
        if parsed.problems:
            continue
        if (blocked := _set(tree, path, parsed.value)) is not None:
            hint = f"`{dotted(blocked)}` is one value in the recipe: write it as a mapping first"
            tree.problems.append(Problem(Where(flag, key=dotted(path)), "cannot be set", hint))
            continue
        _note_places(tree, path, flag)


def _parse_path(key: str) -> KeyPath | None:
    path: KeyPath = ()
    for part in key.split("."):
        match = _PART.fullmatch(part)
        if match is None:
            return None
        indices = (int(digits) for digits in re.findall(r"\d+", match[2]))
        path = (*path, match[1], *indices)
    return path


def _set(tree: Tree, path: KeyPath, value: Any) -> KeyPath | None:
    """Set the value; return the path that stands in the way, if one does."""
    if not isinstance(tree.value, dict):
        tree.value = {} if tree.value is None else tree.value
    node = tree.value
    for depth, part in enumerate(path):
        here, last = path[: depth + 1], depth == len(path) - 1
        if isinstance(part, int):
            if not isinstance(node, list) or part >= len(node):
                return path[:depth]
        elif not isinstance(node, dict):
            return path[:depth]
        elif not last and part not in node:
            node[part] = {}
        if last:
            node[part] = value
        else:
            node[part] = node = _opened(node[part], here)
    return None


def _opened(node: Any, path: KeyPath) -> Any:
    """Return the node as a mapping where it is a section's shorthand: `model: x` → `{name: x}`."""
    if isinstance(node, dict | list):
        return node
    main_fields = {section.main_field for section in sections_at(path)} - {""}
    return {main_fields.pop(): node} if main_fields else node


def _note_places(tree: Tree, path: KeyPath, flag: str) -> None:
    for places in (tree.keys, tree.values):
        for known in [known for known in places if known[: len(path)] == path]:
            del places[known]
        places[path] = Where(flag, key=dotted(path))
