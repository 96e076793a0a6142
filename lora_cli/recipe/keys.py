"""The keys of a recipe against the schema: unknown ones, and unknown members of a family.

Each is a problem here; what was surely meant is put in its place, so that the rest of the recipe
is checked as if it had been written. This module does not look at other values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lora_cli.errors import Problem
from lora_cli.recipe.fields import Sections, all_keys, members, names_in, sections_under
from lora_cli.recipe.source import KeyPath, Source, dotted
from lora_cli.recipe.suggest import closest, key_suggestion, similarity, value_hint
from lora_cli.recipe.wording import kind
from lora_cli.recipe.yaml_tree import UNREADABLE
from lora_cli.section import Section

SURE = 0.8
"""How alike an unknown key and a free one must be to be taken for it."""
MOST_COMPARED = 50
"""Comparing a word with all known names takes milliseconds; no one reads this many answers."""

Family = Mapping[str, type[Section]]


class KeyReader:
    """Reads the keys that were meant; notes problems with those that were written."""

    def __init__(self, source: Source) -> None:
        self._renamed: dict[KeyPath, str] = {}
        self.source = replace(source, renamed=self._renamed)
        """The source, under the keys that were meant."""
        self.problems: list[Problem] = []
        self.suggested: set[str] = set()
        """The keys that unknown ones may have been meant to be."""

    def read(self, node: Any, path: KeyPath, sections: Sections) -> Any:
        """Return `node` with the keys that were meant; one of `sections` stands there."""
        if node is UNREADABLE:
            return node
        if family := members(sections):
            return self._member(node, path, family)
        if isinstance(node, list):
            return [self.read(item, (*path, index), sections) for index, item in enumerate(node)]
        if sections and isinstance(node, dict):
            return self._section(node, path, sections)
        return node

    def _section(self, node: dict[str, Any], path: KeyPath, sections: Sections) -> dict[str, Any]:
        names = names_in(sections)
        meant = {key: key for key in node if key in names}
        for key in node:
            if key not in meant:
                free = [name for name in names if name not in meant.values()]
                meant[key] = self._unknown(key, path, free)
        return {
            name: self.read(value, (*path, name), sections_under(sections, name))
            for key, value in node.items()
            if (name := meant[key])
        }

    def _unknown(self, key: str, path: KeyPath, free: list[str]) -> str:
        """Note an unknown key; return the one it is surely meant to be, or an empty text."""
        place = self.source.of_key((*path, key))
        message = f"unknown key `{dotted((*path, key))}`"
        if len(self.problems) >= MOST_COMPARED:
            self.problems.append(Problem(place, message))
            return ""
        section = dotted(tuple(part for part in path if isinstance(part, str)))
        suggestion = key_suggestion(section, key, free, all_keys())
        self.problems.append(Problem(place, message, suggestion.text))
        self.suggested.add(suggestion.key)
        meant = closest(key, free, SURE) or ""
        if meant:
            self._renamed[*path, meant] = key
        return meant

    def _member(self, node: Any, path: KeyPath, family: Family) -> Any:
        main = next(iter(family.values())).main_field
        if isinstance(node, dict):
            node = self._section(node, path, tuple(dict.fromkeys(family.values())))
        named = node.get(main) if isinstance(node, dict) else node
        if isinstance(named, str) and named in family:
            return self._only_its_keys(node, path, named, family)
        if named is not UNREADABLE:
            self._unknown_member(node, path, main, family)
        if not isinstance(node, dict):
            return UNREADABLE
        chosen = max(family, key=lambda name: _likeness(family[name], name, node, named))
        own = family[chosen].model_fields
        return {key: value for key, value in node.items() if key in own} | {main: chosen}

    def _only_its_keys(self, node: Any, path: KeyPath, named: str, family: Family) -> Any:
        """Return the node without the keys that only other members have: these are problems."""
        own = family[named].model_fields
        for key in [key for key in node if key not in own] if isinstance(node, dict) else ():
            others = [name for name, section in family.items() if key in section.model_fields]
            message = f"unknown key `{dotted((*path, key))}`: `{named}` has none"
            hint = f"it goes with {_listing(others)}"
            self.problems.append(Problem(self.source.of_key((*path, key)), message, hint))
        return {k: v for k, v in node.items() if k in own} if isinstance(node, dict) else node

    def _unknown_member(self, node: Any, path: KeyPath, main: str, family: Family) -> None:
        inner = (*path, main)
        key = dotted(inner)
        if isinstance(node, dict) and main not in node:
            hint = value_hint(key, "", family)
            self.problems.append(Problem(self.source.of_value(path), f"`{key}` is missing", hint))
            return
        place, value = (inner, node[main]) if isinstance(node, dict) else (path, node)
        message = f"`{dotted(place)}` cannot be {kind(value, self.source.text(place))}"
        hint = value_hint(key, value, family)
        self.problems.append(Problem(self.source.of_value(place), message, hint))


def _likeness(section: type[Section], name: str, node: dict[str, Any], named: Any) -> Any:
    """Return how well a member fits what was written: by its keys first, then by its name."""
    known = sum(key in section.model_fields for key in node)
    return known, similarity(str(named), name)


def _listing(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)
