"""The part of Go's text/template that a Modelfile here uses, carried out.

Actions: a string, a field, a variable, `:=` and `=` with a boolean, `if`, `else if`, `else`,
`range` and `end`; a condition is a value or `eq` of two. Text stands between actions as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

ACTION = re.compile(r'\{\{ ((?:"(?:[^"\\]|\\.)*"|[^"}])*) \}\}')
LONG_ESCAPE = re.compile(r"\\U([0-9a-f]{8})")
Values = Mapping[str, Any]


def render_go(template: str, values: Values) -> str:
    """Return what Go would write for these values; every action must be known."""
    parts = ACTION.split(template)
    nodes, rest = _block([(bool(n % 2), part) for n, part in enumerate(parts)])
    assert not rest, "an `end` or `else` too many"
    return "".join(_run(nodes, values, {}))


Node = tuple[str, Any]


def _block(parts: list[tuple[bool, str]]) -> tuple[list[Node], list[tuple[bool, str]]]:
    """Return the nodes up to an `else` or `end`, and what is left from there on."""
    nodes: list[Node] = []
    while parts:
        is_action, text = parts[0]
        if is_action and text.split(" ")[0] in ("else", "end"):
            return nodes, parts
        parts = parts[1:]
        if not is_action:
            assert "{{" not in text, f"no known action: {text}"
            nodes.append(("text", text))
        elif text.startswith(("if ", "range ")):
            node, parts = _branches(text, parts)
            nodes.append(node)
        else:
            nodes.append(("action", text))
    return nodes, parts


def _branches(text: str, parts: list[tuple[bool, str]]) -> tuple[Node, list[tuple[bool, str]]]:
    word, condition = text.split(" ", 1)
    body, parts = _block(parts)
    end = parts[0][1]
    parts = parts[1:]
    other: list[Node] = []
    if end.startswith("else if "):
        node, parts = _branches(end.removeprefix("else "), parts)
        other = [node]
    elif end == "else":
        other, parts = _block(parts)
        assert parts[0][1] == "end"
        parts = parts[1:]
    return (word, (condition, body, other)), parts


def _run(nodes: list[Node], values: Values, variables: dict[str, bool]) -> Iterator[str]:
    for kind, content in nodes:
        if kind == "text":
            yield content
        elif kind == "action":
            yield from _act(content, values, variables)
        elif kind == "if":
            condition, body, other = content
            chosen = body if _value(condition, values, variables) else other
            yield from _run(chosen, values, variables)
        else:
            name, body, _ = content
            for item in _value(name, values, variables):
                yield from _run(body, item, variables)


def _act(content: str, values: Values, variables: dict[str, bool]) -> Iterator[str]:
    if setting := re.fullmatch(r"(\$\w+) :?= (true|false)", content):
        variables[setting[1]] = setting[2] == "true"
    else:
        yield _value(content, values, variables)


def _value(text: str, values: Values, variables: Mapping[str, bool]) -> Any:
    if comparison := re.fullmatch(r'eq (\S+) ("\w+")', text):
        left, right = (_value(side, values, variables) for side in comparison.groups())
        return left == right
    if text.startswith('"'):
        short = LONG_ESCAPE.sub(lambda found: json.dumps(chr(int(found[1], 16)))[1:-1], text)
        return json.loads(short)
    return variables[text] if text.startswith("$") else values[text.removeprefix(".")]
