"""Where each value of a recipe was written: positions by key path.

This module does not know YAML or the schema; `yaml_tree` and `overrides` fill it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lora_cli.errors import Where

KeyPath = tuple[str | int, ...]


def dotted(path: KeyPath) -> str:
    """Return `a.b.0.c` as `a.b[0].c`, the way a reader would write it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True)
class Source:
    """The positions of a recipe's keys and values, whatever was overridden from a flag."""

    file: str
    keys: Mapping[KeyPath, Where] = field(default_factory=dict)
    values: Mapping[KeyPath, Where] = field(default_factory=dict)

    def of_key(self, path: KeyPath) -> Where:
        """Return where the key of `path` stands, or the nearest section around it."""
        return self._nearest(self.keys, path)

    def of_value(self, path: KeyPath) -> Where:
        """Return where the value of `path` stands, or the nearest section around it."""
        return self._nearest(self.values, path)

    def wrote(self, path: KeyPath) -> bool:
        """Return whether the user wrote this very key (or its list item)."""
        return path in self.values

    def _nearest(self, places: Mapping[KeyPath, Where], path: KeyPath) -> Where:
        for length in range(len(path), 0, -1):
            if place := places.get(path[:length]):
                return Where(place.file, place.line, place.column, dotted(path))
        return Where(self.file, key=dotted(path))
