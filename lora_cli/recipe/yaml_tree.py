"""YAML text → plain values, with a position for every key and every problem found.

The scalars are those of YAML 1.2's core schema, so that `1e-4` is a number and a date is text.
What YAML readers disagree on (`yes`, `010`, merge keys, tags) is a problem, never a guess.
This module does not know which keys a recipe may have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from lora_cli.errors import Problem, Where
from lora_cli.recipe.source import KeyPath, dotted

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_DEPTH = 20
MAX_NODES = 5_000

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DISPUTED_NUMBERS = (
    re.compile(r"[-+]?0[0-9_]+|0[xXbB][0-9a-fA-F_]+|0o[0-7_]+"),  # octal, hexadecimal, binary
    re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*"),  # 1_000
    re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+"),  # 1:30, base 60
)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BOOLEAN_TRAPS = {
    **dict.fromkeys(("yes", "Yes", "YES", "on", "On", "ON", "y", "Y"), "true"),
    **dict.fromkeys(("no", "No", "NO", "off", "Off", "OFF", "n", "N"), "false"),
}
_IMPLICIT_TAGS = {
    f"!!{kind}"
    for kind in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge", "seq", "map")
}
_NULLS = {"", "~", "null", "Null", "NULL"}


@dataclass
class Tree:
    """The values of a document, where they stood, and what was wrong with the text."""

    value: Any = None
    keys: dict[KeyPath, Where] = field(default_factory=dict)
    values: dict[KeyPath, Where] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_tree(text: str, file: str) -> Tree:
    """Return the values of one YAML document; whatever is wrong is in `problems`."""
    tree = Tree()
    try:
        problem = _first_excess(text, file)
        node = None if problem else _compose(text)
    except yaml.YAMLError as error:
        problem, node = _syntax_problem(error, text, file), None
    if problem:
        tree.problems.append(problem)
    elif node is None:
        hint = "a recipe needs at least `model`, `adapter` and `dataset`"
        tree.problems.append(Problem(Where(file, 1, 1), "the recipe is empty", hint))
    else:
        tree.value = _Reader(file, tree).read(node, ())
    return tree


def _compose(text: str) -> yaml.Node | None:
    loader = Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def _first_excess(text: str, file: str) -> Problem | None:
    """Return a problem for a document too deep or too large to be a recipe, before building it."""
    depth = nodes = 0
    events: Iterator[yaml.Event] = yaml.parse(text, Loader=Loader)
    for event in events:
        nodes += isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            return _excess(event, file, f"nested more than {MAX_DEPTH} levels deep")
        if nodes > MAX_NODES:
            return _excess(event, file, f"more than {MAX_NODES:,} values")
    return None


def _excess(event: yaml.Event, file: str, what: str) -> Problem:
    where = Where(file, event.start_mark.line + 1, event.start_mark.column + 1)
    return Problem(where, f"{what}: this is not a recipe", "see `loracli schema` for what one holds")


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = Where(file, mark.line + 1, mark.column + 1) if mark else Where(file)
    message = getattr(error, "problem", None) or str(error).split("\n")[0]
    lines = text.split("\n")
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation:
        where = Where(file, where.line, indentation.index("\t") + 1)
        return Problem(where, "a tab in the indentation", "YAML indents with spaces only")
    if "expected a single document" in message:
        return Problem(where, "a second document begins here", "one recipe a file: remove `---`")
    return Problem(where, f"not valid YAML: {message}", _syntax_hint(message, line))


def _syntax_hint(message: str, line: str) -> str:
    if "mapping values are not allowed" in message:
        return "put text that holds `: ` in quotes, or check the indentation"
    if "could not find expected ':'" in message:
        return f"a key needs a colon and a space after it: `{line.strip().split(' ')[0]}: …`"
    if "cannot start any token" in message:
        return "put the value in quotes"
    if "undefined alias" in message:
        return "an alias `*name` needs an anchor `&name` before it"
    return "check indentation, quotes and brackets around this place"


class _Reader:
    """Walks composed nodes; aliases are followed, with a limit on what they expand to."""

    def __init__(self, file: str, tree: Tree) -> None:
        self._file = file
        self._tree = tree
        self._nodes = 0
        self._open: set[int] = set()

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        """Return the node's value, noting positions and problems under `path`."""
        self._nodes += 1
        self._tree.values.setdefault(path, self._where(node, path))
        if self._nodes > MAX_NODES:
            if self._nodes == MAX_NODES + 1:
                message = f"aliases expand to more than {MAX_NODES:,} values"
                self._problem(node, path, message, "write the values out")
            return None
        if id(node) in self._open:
            self._problem(node, path, "this alias refers to itself", "write the values out")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._check_tag(node, path)
        self._open.add(id(node))
        try:
            return self._collection(node, path)
        finally:
            self._open.discard(id(node))

    def _collection(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._mapping(node, path)

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            inner = (*path, key)
            if key in result:
                first = self._tree.keys[inner]
                message = f"`{key}` is written twice (first at line {first.line})"
                self._problem(key_node, inner, message, "keep one of the two")
                continue
            self._tree.keys[inner] = self._where(key_node, inner)
            result[key] = self.read(value_node, inner)
        return result

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._problem(node, path, "a key must be a word", "write `key: value`")
            return None
        text = str(node.value)
        plain = not node.style
        if plain and text == "<<":
            message = "merge keys (`<<`) are not supported: YAML 1.2 has none"
            self._problem(node, (*path, text), message, "write the fields out")
            return None
        if plain and (_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text) or text in _NULLS):
            self._problem(node, path, f"the key `{text}` is not a word", "keys of a recipe are names")
            return None
        return text

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text = str(node.value)
        self._check_tag(node, path)
        if node.style:
            return text
        if text in _NULLS:
            message = f"`{dotted(path) or self._file}` has no value"
            self._problem(node, path, message, "give it one, or remove the line for the default")
            return None
        if text in _BOOLEAN_TRAPS:
            message = f"YAML readers disagree on a bare `{text}`: some read a word, some a boolean"
            hint = f'write `{_BOOLEAN_TRAPS[text]}`, or "{text}" in quotes for the word'
            self._problem(node, path, message, hint)
            return None
        if any(form.fullmatch(text) for form in _DISPUTED_NUMBERS):
            message = f"YAML readers disagree on the number `{text}`"
            hint = "write it in plain decimal digits, or in quotes for text"
            self._problem(node, path, message, hint)
            return None
        return _plain_value(text)

    def _check_tag(self, node: yaml.Node, path: KeyPath) -> None:
        shown = str(node.tag).replace("tag:yaml.org,2002:", "!!")
        if shown not in _IMPLICIT_TAGS:
            self._problem(node, path, f"tags are not supported: `{shown}`", "write a plain value")

    def _where(self, node: yaml.Node, path: KeyPath) -> Where:
        mark = node.start_mark
        return Where(self._file, mark.line + 1, mark.column + 1, dotted(path))

    def _problem(self, node: yaml.Node, path: KeyPath, message: str, hint: str) -> None:
        self._tree.problems.append(Problem(self._where(node, path), message, hint))


def _plain_value(text: str) -> Any:
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INTEGER.fullmatch(text) and len(text) < 25:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text
