"""The schema seen from outside: every key a recipe can have, by dotted path.

Used for suggestions, for `--set`, and by the test that every field has a reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, get_args, get_origin

from pydantic import Discriminator
from pydantic.fields import FieldInfo

from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.source import KeyPath
from lora_cli.section import Section

Sections = tuple[type[Section], ...]


def sections_of(annotation: Any) -> Sections:
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
def all_sections() -> Sections:
    """Return every section class of the schema, the recipe first."""
    found: dict[type[Section], None] = {Recipe: None}
    waiting: list[type[Section]] = [Recipe]
    while waiting:
        section = waiting.pop()
        inner = {
            each: None for name in section.model_fields for each in sections_under((section,), name)
        }
        waiting += [each for each in inner if each not in found]
        found.update(inner)
    return tuple(found)


def names_in(sections: Sequence[type[Section]]) -> tuple[str, ...]:
    """Return the keys that any of the sections has."""
    return tuple(dict.fromkeys(name for section in sections for name in section.model_fields))


def sections_under(sections: Sequence[type[Section]], name: str) -> Sections:
    """Return the sections that may stand under the key `name` of any of `sections`."""
    annotations = [
        cls.model_fields[name].annotation for cls in sections if name in cls.model_fields
    ]
    return tuple(dict.fromkeys(inner for each in annotations for inner in sections_of(each)))


def sections_at(path: KeyPath) -> Sections:
    """Return the sections that may stand at a key path (empty: not a section)."""
    return _sections_at(tuple(part for part in path if isinstance(part, str)))


@lru_cache(256)  # more paths than the schema has; those of a file full of nonsense come and go
def _sections_at(names: tuple[str, ...]) -> Sections:
    return sections_under(_sections_at(names[:-1]), names[-1]) if names else (Recipe,)


def field_at(path: KeyPath) -> FieldInfo | None:
    """Return the field at a key path, or None if there is no such key."""
    for section in sections_at(path[:-1]) if path else ():
        if info := section.model_fields.get(str(path[-1])):
            return info
    return None


def is_list(path: KeyPath) -> bool:
    """Return whether a list of sections stands at a key path."""
    info = field_at(path)
    return info is not None and get_origin(info.annotation) is tuple


def is_tagged(path: KeyPath) -> bool:
    """Return whether pydantic names a member of a union after this path in its errors."""
    info = field_at(path)
    return info is not None and (
        info.discriminator is not None
        or any(isinstance(item, Discriminator) for item in info.metadata)
        or (get_origin(info.annotation) is not tuple and _has_tagged_member(info.annotation))
    )


def has_tagged_items(path: KeyPath) -> bool:
    """Return whether pydantic names a member of a union after each index of the list at `path`."""
    info = field_at(path)
    annotation = info.annotation if info else None
    return get_origin(annotation) is tuple and _has_tagged_member(annotation)


def _has_tagged_member(annotation: Any) -> bool:
    """Return whether a tagged union stands inside an annotation."""
    metadata = [getattr(each, "__metadata__", ()) for each in get_args(annotation)]
    return any(isinstance(item, Discriminator) for items in metadata for item in items)


def members(sections: Sequence[type[Section]]) -> dict[str, type[Section]]:
    """Return the members of a family (variants, methods) by name; none for one section alone."""
    if len(sections) < 2:
        return {}
    return {name: section for section in sections for name in section.names()}
