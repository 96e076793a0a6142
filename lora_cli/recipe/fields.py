"""The schema seen from outside: every key a recipe can have, by dotted path.

Used for suggestions, for `--set`, and by the test that every field has a reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.source import KeyPath
from lora_cli.section import Section


def sections_of(annotation: Any) -> tuple[type[Section], ...]:
    """Return the section classes inside an annotation: unions, tuples and wrappers unwound."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return (annotation,)
    found: dict[type[Section], None] = {}
    for argument in get_args(annotation):
        found.update(dict.fromkeys(sections_of(argument)))
    return tuple(found)


@cache
def all_keys() -> tuple[str, ...]:
    """Return every key path of the schema, sections and leaves, list items left out."""
    return tuple(dict.fromkeys(_walk(Recipe, "")))


def _walk(section: type[Section], prefix: str) -> Iterator[str]:
    for name, info in section.model_fields.items():
        key = f"{prefix}{name}"
        yield key
        for inner in sections_of(info.annotation):
            yield from _walk(inner, f"{key}.")


@cache
def sections_at(path: KeyPath) -> tuple[type[Section], ...]:
    """Return the sections that may stand at a key path (empty: not a section)."""
    current: tuple[type[Section], ...] = (Recipe,)
    for part in path:
        if isinstance(part, int):
            continue
        annotations = [cls.model_fields[part].annotation for cls in current if part in cls.model_fields]
        current = tuple(dict.fromkeys(s for a in annotations for s in sections_of(a)))
    return current


def field_names(path: KeyPath) -> tuple[str, ...]:
    """Return the keys that may stand under a key path."""
    return tuple(dict.fromkeys(name for cls in sections_at(path) for name in cls.model_fields))
