"""The keys of a recipe against the schema: unknown ones, and unknown members of a family.

Each is a problem here; what was surely meant is put in its place, so that the rest of the recipe
is checked as if it had been written. This module does not look at other values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lora_cli.errors import Problem
from lora_cli.recipe.fields import Sections, all_keys, is_list, members, names_in, sections_under
from lora_cli.recipe.source import UNREADABLE, KeyPath, Source, dotted
from lora_cli.recipe.suggest import Suggestion, closest, key_suggestion, similarity, value_hint
from lora_cli.recipe.wording import kind
from lora_cli.section import Section

SURE = 0.8
"""How alike an unknown key and a free one must be to be taken for it."""
MOST_COMPARED = 50
"""Comparing a word with all known names takes milliseconds; no one reads this many answers."""
MOST_NAMED = 5
"""Members of a family that are named one by one."""

UNKNOWN = "unknown key"

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
        if isinstance(node, list) and is_list(path):
            return [self.read(item, (*path, index), sections) for index, item in enumerate(node)]
        if sections and isinstance(node, dict):
            return self._section(node, path, sections)
        return node

    def _section(
        self, node: dict[str, Any], path: KeyPath, sections: Sections, own: Sections = ()
    ) -> dict[str, Any]:
        """Return the section with the keys that were meant; those of `own` are its suggestions."""
        names = names_in(sections)
        meant = {key: key for key in node if key in names}
        there = set(meant)
        for key, value in node.items():
            if key not in meant:
                taken = set(meant.values())
                suggestion = self._suggestion(key, path, names_in(own or sections), there)
                if value is False and ": " in suggestion.key:
                    ours = suggestion.key.partition(":")[0]
                    suggestion = Suggestion(f"leave the line out: `{ours}` decides it")
                meant[key] = self._unknown((*path, key), suggestion, names, taken)
        return {
            name: self.read(value, (*path, name), sections_under(sections, name))
            for key, value in node.items()
            if (name := meant[key])
        }

    def _suggestion(
        self, key: str, path: KeyPath, listed: Iterable[str], taken: set[str]
    ) -> Suggestion:
        if len(self.problems) >= MOST_COMPARED:
            return Suggestion("")
        section = dotted(tuple(part for part in path if isinstance(part, str)))
        in_flag = self.source.of_key((*path, key)).file.startswith("--set")
        return key_suggestion(
            section, key, listed, taken=taken, in_flag=in_flag, all_keys=all_keys()
        )

    def _unknown(
        self, path: KeyPath, suggestion: Suggestion, names: Iterable[str], taken: set[str]
    ) -> str:
        """Note an unknown key; return the one it is surely meant to be, or an empty text."""
        message = f"{UNKNOWN} `{dotted(path)}`"
        self.problems.append(Problem(self.source.of_key(path), message, suggestion.text))
        self.suggested.add(suggestion.key.partition(":")[0])
        if not suggestion.text:
            return ""
        key = str(path[-1])
        meant = closest(key, names, SURE)
        if meant is None or meant in taken:
            return ""
        self._renamed[*path[:-1], meant] = key
        return meant

    def _member(self, node: Any, path: KeyPath, family: Family) -> Any:
        if isinstance(node, dict):
            return self._mapping_member(node, path, family)
        if isinstance(node, str) and node in family:
            return node
        self._unknown_member(node, path, path, family)
        return UNREADABLE

    def _mapping_member(self, node: dict[str, Any], path: KeyPath, family: Family) -> Any:
        main = _main_field(family)
        asked = family.get(str(node.get(main)))
        sections = tuple(dict.fromkeys(family.values()))
        node = self._section(node, path, sections, (asked,) if asked else ())
        named = node.get(main)
        chosen = named if isinstance(named, str) and named in family else ""
        if main not in node:
            chosen = next((name for name, each in family.items() if each.is_default), "")
        if chosen:
            self._note_keys_of_others(node, path, chosen, family)
        elif main not in node:
            self._missing_member(path, family)
        elif named is not UNREADABLE:
            self._unknown_member(named, (*path, main), path, family)
        chosen = chosen or max(family, key=lambda name: _likeness(name, family[name], node, named))
        own = family[chosen].model_fields
        kept = {key: value for key, value in node.items() if key in own}
        left_out = family[chosen].is_default and main not in node
        return kept if left_out else kept | {main: chosen}

    def _note_keys_of_others(
        self, node: dict[str, Any], path: KeyPath, chosen: str, family: Family
    ) -> None:
        """Note the keys that other members of the family have and the chosen one has not."""
        for key in [key for key in node if key not in family[chosen].model_fields]:
            others = [f"`{name}`" for name in family if key in family[name].model_fields]
            message = f"unknown key `{dotted((*path, key))}`: `{chosen}` has none"
            hint = f"it goes with {' and '.join(others)}"
            if len(others) > MOST_NAMED:
                hint = f"`{chosen}` has: {', '.join(_fields(family[chosen]))}"
            self.problems.append(Problem(self.source.of_key((*path, key)), message, hint))

    def _missing_member(self, path: KeyPath, family: Family) -> None:
        key = dotted((*path, _main_field(family)))
        if key not in self.suggested:  # else it is there under a name that is a problem already
            place = self.source.of_value(path)
            self.problems.append(Problem(place, f"`{key}` is missing", value_hint(key, "", family)))

    def _unknown_member(self, value: Any, place: KeyPath, path: KeyPath, family: Family) -> None:
        message = f"`{dotted(place)}` cannot be {kind(value, self.source.text(place))}"
        word = "" if isinstance(value, dict | list) else value
        hint = value_hint(dotted((*path, _main_field(family))), word, family)
        self.problems.append(Problem(self.source.of_value(place), message, hint))


def _fields(section: type[Section]) -> list[str]:
    return [name for name in section.model_fields if name != section.main_field]


def _main_field(family: Family) -> str:
    return next(iter(family.values())).main_field


def _likeness(name: str, section: type[Section], node: dict[str, Any], named: Any) -> Any:
    """Return how well a member fits what was written: by its keys first, then by its name."""
    known = sum(key in section.model_fields for key in node)
    return known, similarity(str(named), name)
