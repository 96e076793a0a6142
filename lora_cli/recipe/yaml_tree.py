"""YAML text → plain values, with a position for every key and every problem found.

What YAML readers disagree on (merge keys, tags, keys written twice) is a problem, never a guess.
This module does not know which keys a recipe may have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from lora_cli.errors import Problem, Where
from lora_cli.recipe.scalars import FLOAT, NULLS, Trap, read_scalar
from lora_cli.recipe.source import UNREADABLE, KeyPath, dotted
from lora_cli.recipe.wording import shown
from lora_cli.recipe.yaml_outline import MAX_NODES, Loader, Outline, outline, tag_place
from lora_cli.recipe.yaml_syntax import syntax_problem

NO_VALUE = "has no value"
_NO_COMMA = "a number has no comma: write 2.5 for 2,5 and 1000 for 1,000"


@dataclass
class Tree:
    """The values of a document, where they stood, and what was wrong with the text."""

    value: Any = UNREADABLE
    keys: dict[KeyPath, Where] = field(default_factory=dict)
    values: dict[KeyPath, Where] = field(default_factory=dict)
    written: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    empty: bool = False


def read_tree(text: str, file: str) -> Tree:
    """Return the values of one YAML document; whatever is wrong is in `problems`."""
    tree = Tree()
    try:
        found = outline(text, file)
        node = None if found.excess else _compose(text)
    except yaml.YAMLError as error:
        tree.problems.append(syntax_problem(error, text, file))
        return tree
    if found.excess:
        tree.problems.append(found.excess)
    elif node is None or (isinstance(node, yaml.ScalarNode) and _is_null(node)):
        tree.empty = True
    else:
        _read_root(node, tree, _Reader(file, tree, found))
    return tree


def _read_root(node: yaml.Node, tree: Tree, reader: _Reader) -> None:
    try:
        tree.value = reader.read(node, ())
    except _TooManyValuesError:
        message = f"aliases expand to more than {MAX_NODES:,} values"
        tree.problems.append(Problem(reader.last_alias(), message, "write the values out"))


def _compose(text: str) -> yaml.Node | None:
    loader = Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def _is_null(node: yaml.ScalarNode) -> bool:
    return not node.style and node.value in NULLS


class _TooManyValuesError(Exception):
    """Aliases multiply the values: the classic bomb."""


class _Reader:
    """Walks composed nodes; aliases are followed, with a limit on what they expand to."""

    def __init__(self, file: str, tree: Tree, found: Outline) -> None:
        self._file = file
        self._tree = tree
        self._found = found
        self._nodes = 0
        self._open: set[int] = set()
        self._known: set[int] = set()
        self._expanding = self._expanded = 0
        """Aliases that are being followed now, and those of the text that were followed."""

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        """Return the node's value, noting positions and problems under `path`."""
        aliased = self._is_aliased(node)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooManyValuesError
        self._tree.values.setdefault(path, self._where(node, path))
        if id(node) in self._open:
            self.problem(node, path, "an alias in this value refers to it", "write it out")
            return UNREADABLE
        tagged = self._is_tagged(node, path)
        self._open.add(id(node))
        self._expanding += aliased
        value = self._untagged(node, path)
        self._expanding -= aliased
        self._open.discard(id(node))
        return UNREADABLE if tagged else value

    def last_alias(self) -> Where:
        """Return where the alias stands that was followed last."""
        mark = self._found.aliases[self._expanded - 1]
        return Where(self._file, mark.line + 1, mark.column + 1)

    def problem(self, node: yaml.Node, path: KeyPath, message: str, hint: str) -> None:
        """Note a problem at the place of `node`."""
        self._tree.problems.append(Problem(self._where(node, path), message, hint))

    def _is_aliased(self, node: yaml.Node) -> bool:
        """Return whether an alias led here; those that stand in the text itself are counted."""
        again = id(node) in self._known
        self._known.add(id(node))
        self._expanded += again and not self._expanding
        return again

    def _untagged(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode), "nodes are of three kinds"
        return self._mapping(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> Any:
        result: dict[str, Any] = {}
        inherited: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            self._is_aliased(key_node)
            if _is_merge(key_node):
                # read all the same: its keys are then not said to be missing
                inherited = self._merged(key_node, value_node, path) or inherited
            elif (key := self._key(key_node, path, in_flow=bool(node.flow_style))) is not None:
                value = self._entry(key_node, value_node, (*path, key), lines)
                result.setdefault(key, value)
        # a mapping of which no key could be read lacks none either
        return {**inherited, **result} or (UNREADABLE if node.value else {})

    def _entry(
        self, key_node: yaml.Node, value_node: yaml.Node, path: KeyPath, lines: dict[str, int]
    ) -> Any:
        key = str(path[-1])
        if key in lines:
            message = f"`{dotted(path)}` is written twice (first in line {lines[key]})"
            self.problem(key_node, path, message, "keep one of the two")
        lines.setdefault(key, key_node.start_mark.line + 1)
        self._tree.keys.setdefault(path, self._where(key_node, path))
        return self.read(value_node, path)

    def _merged(self, key_node: yaml.Node, value_node: yaml.Node, path: KeyPath) -> Any:
        inner = (*path, "<<")
        message = "merge keys (`<<`) are not supported: YAML 1.2 has none"
        self.problem(key_node, inner, message, "write the fields out")
        value = self.read(value_node, inner)
        return value if isinstance(value, dict) else None

    def _key(self, node: yaml.Node, path: KeyPath, *, in_flow: bool) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            message = "a mapping or a list cannot be a key"
            self.problem(node, path, message, "put text that begins with `{` or `[` in quotes")
            return None
        text = str(node.value)
        if self._is_tagged(node, path):
            return None
        if not text or (not node.style and (text in NULLS or FLOAT.fullmatch(text))):
            what = f"the key `{shown(text)}` is not a word" if text else "an empty key"
            hint = _NO_COMMA if in_flow and FLOAT.fullmatch(text) else "keys are names"
            self.problem(node, path, what, hint)
            return None
        return text

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text = str(node.value)
        if node.style:
            return text
        if text in NULLS:
            self.problem(
                node, path, f"`{dotted(path)}` {NO_VALUE}", "give it one, or remove the line"
            )
            return UNREADABLE
        value = read_scalar(text)
        if isinstance(value, Trap):
            self.problem(node, path, value.message, value.hint)
            return UNREADABLE
        self._tree.written.setdefault(path, text)
        return value

    def _is_tagged(self, node: yaml.Node, path: KeyPath) -> bool:
        """Return whether the node has a tag of its own, which is a problem."""
        tag = self._found.tags.get(tag_place(node, isinstance(node, yaml.ScalarNode)))
        if tag:
            self.problem(node, path, f"tags are not supported: `{shown(tag)}`", "remove the tag")
        return bool(tag)

    def _where(self, node: yaml.Node, path: KeyPath) -> Where:
        mark: Any = node.start_mark
        return Where(self._file, mark.line + 1, mark.column + 1, dotted(path))


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style and node.value == "<<"
