"""`--set a.b=value`: values from the command line, through the same validation as the file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from lora_cli.errors import Problem, Where
from lora_cli.recipe.fields import field_at, is_list, sections_at
from lora_cli.recipe.file_text import refused_character
from lora_cli.recipe.source import UNREADABLE, KeyPath, dotted
from lora_cli.recipe.wording import shown
from lora_cli.recipe.yaml_outline import MAX_DEPTH
from lora_cli.recipe.yaml_tree import Tree, read_tree
from lora_cli.section import Scalar

_PART = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)((?:\[\d{1,6}\])*)")


class _FlagError(Exception):
    """A flag that cannot be followed: what is wrong, what to write."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def apply_overrides(tree: Tree, overrides: Iterable[str]) -> None:
    """Set each `key=value` in the tree, noting the flag as its place and any problem with it."""
    for override in overrides:
        where = Where(f"--set {shown(override)}")
        try:
            path, value = _parsed(override, where)
            path = _to_main_field(_in_file(path, tree.value), tree.value, value.value)
            if tree.value is not UNREADABLE:
                _set(tree, path, value.value, where)
                _note(tree, path, value, where)
            tree.problems += [_at(where, path, problem) for problem in value.problems]
        except _FlagError as error:
            tree.problems.append(Problem(where, error.message, error.hint))


def _parsed(override: str, where: Where) -> tuple[KeyPath, Tree]:
    key, equals, text = override.partition("=")
    path = _parse_path(key.strip())
    if not equals or not path:
        hint = "write --set section.key=value, for example --set training.learning_rate=1e-4"
        raise _FlagError("is not `key=value`", hint)
    if refused := refused_character(text):
        raise _FlagError(f"holds the character {refused[1]}", "remove it")
    value = read_tree(text, where.file)
    if value.empty:
        raise _FlagError(f"`{dotted(path)}` has no value", "leave the flag out for the default")
    return path, value


def _parse_path(key: str) -> KeyPath | None:
    parts: list[str | int] = []
    for part in key.split("."):
        match = _PART.fullmatch(part)
        if match is None or len(parts) > MAX_DEPTH:
            return None
        parts += [match[1], *(int(digits) for digits in re.findall(r"\d+", match[2]))]
    return tuple(parts)


def _in_file(path: KeyPath, root: Any) -> KeyPath:
    """Return `path` without its [0] where the file has one value for a list: `dataset: x`."""
    listed = isinstance(root, dict) and isinstance(root.get(path[0]), list)
    if is_list(path[:1]) and path[1:2] == (0,) and not listed:
        return path[:1] + path[2:]
    return path


def _to_main_field(path: KeyPath, root: Any, value: Any) -> KeyPath:
    """Return where a scalar goes: in a section that is written out, it is the main field's."""
    standing: Any = root
    for part in path:
        listed = isinstance(standing, list) and isinstance(part, int) and part < len(standing)
        inside = isinstance(standing, dict) and part in standing
        standing = standing[part] if listed or inside else None
    main = next((section.main_field for section in sections_at(path)), "")
    written_out = isinstance(standing, dict) and isinstance(value, Scalar)
    return (*path, main) if main and written_out else path


def _set(tree: Tree, path: KeyPath, value: Any, where: Where) -> None:
    """Set the value, opening and adding the sections on the way."""
    node = tree.value
    if not isinstance(node, dict):
        return  # the file is no recipe at all, and that is said already
    for depth, part in enumerate(path[:-1], 1):
        here = path[:depth]
        child = _child(node, part, path[: depth - 1])
        if child is UNREADABLE:
            return  # nothing can be set in it, and its problem is known
        opened = _opened(child, here, path[depth])
        if child is None:
            tree.keys[here] = tree.values[here] = replace(where, key=dotted(here))
        node[part] = node = opened
    _child(node, path[-1], path[:-1])
    node[path[-1]] = value


def _child(node: Any, part: str | int, path: KeyPath) -> Any:
    """Return what stands under `part` of the node at `path`: None if nothing does yet."""
    if isinstance(part, str):
        return node.get(part)
    if part >= len(node):
        count = f"{len(node)} item" + "s" * (len(node) != 1)
        raise _FlagError(
            f"`{dotted((*path, part))}` is not there", f"the list has {count}, from [0]"
        )
    return node[part]


def _opened(node: Any, path: KeyPath, part: str | int) -> Any:
    """Return what stands at `path` as what `part` needs: a mapping, or a list as it is.

    A section's shorthand becomes the section: `model: x` → `{name: x}`.
    """
    name = dotted(path)
    if isinstance(part, int):
        if isinstance(node, list):
            return node
        raise _FlagError(f"`{name}` is not a list in the recipe", f"leave out the [{part}]")
    if isinstance(node, dict):
        return node
    if isinstance(node, list):
        raise _FlagError(f"`{name}` is a list in the recipe", f"write `{name}[0].{part}=…`")
    sections = sections_at(path)
    if node is None and (sections or field_at(path) is None):
        return {}
    if node is not None and sections and sections[0].main_field:
        return {sections[0].main_field: node}
    hint = f"`{name}={{{part}: …}}` would replace it" if sections else f"set `{name}` itself"
    raise _FlagError(f"`{name}` is one value: it has no `{part}`", hint)


def _note(tree: Tree, path: KeyPath, value: Tree, where: Where) -> None:
    """Forget what the file had under `path`, its problems included, and note the flag instead."""
    for places in (tree.keys, tree.values, tree.written):
        for known in [known for known in places if known[: len(path)] == path]:
            del places[known]
    for inner in {(), *value.values}:
        whole = (*path, *inner)
        tree.keys[whole] = tree.values[whole] = replace(where, key=dotted(whole))
    tree.written.update({(*path, *inner): text for inner, text in value.written.items()})
    key = dotted(path)
    tree.problems = [
        problem
        for problem in tree.problems
        if problem.where.key != key and not problem.where.key.startswith((f"{key}.", f"{key}["))
    ]


def _at(where: Where, path: KeyPath, problem: Problem) -> Problem:
    """Return a problem within a flag's value as one of the flag."""
    inner = problem.where.key
    key = dotted(path) + (inner if not inner or inner.startswith("[") else f".{inner}")
    return replace(problem, where=replace(where, key=key))
