"""What the YAML parser's events tell of a text before anything is built from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from lora_cli.errors import Problem, Where

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_DEPTH = 20
MAX_NODES = 5_000

TagPlace = tuple[int, int, bool]
Tags = dict[TagPlace, str]
"""The tags that were written; composed nodes mix them up with those that are implied."""


def tag_place(node_or_event: Any, is_scalar: bool) -> TagPlace:
    """Return what tells a node from all others: a mapping starts where its first key does."""
    mark = node_or_event.start_mark
    return mark.line, mark.column, is_scalar


@dataclass
class Outline:
    """What nodes do not tell, and a problem if the text is too deep or too large to be built."""

    tags: Tags = field(default_factory=dict)
    aliases: list[Any] = field(default_factory=list)
    """The marks where aliases begin, in order."""
    excess: Problem | None = None


def outline(text: str, file: str) -> Outline:
    """Return what the events of a text tell of it."""
    found = Outline()
    depth = nodes = 0
    events: Iterator[Any] = yaml.parse(text, Loader=Loader)
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        if tag := getattr(event, "tag", None):
            place = tag_place(event, isinstance(event, yaml.ScalarEvent))
            found.tags[place] = tag.replace("tag:yaml.org,2002:", "!!")
        if isinstance(event, yaml.AliasEvent):
            found.aliases.append(event.start_mark)
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            too_many = f"more than {MAX_NODES:,} values"
            too_deep = f"nested more than {MAX_DEPTH} levels deep"
            found.excess = _excess(event, file, too_deep if depth > MAX_DEPTH else too_many)
            return found
    return found


def _excess(event: Any, file: str, what: str) -> Problem:
    where = Where(file, event.start_mark.line + 1, event.start_mark.column + 1)
    return Problem(where, f"{what}: this is not a recipe", "`loracli schema` says what one holds")
