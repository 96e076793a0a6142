"""Where each value of a recipe was written: positions by key path.

This module does not know YAML or the schema; `yaml_tree` and `overrides` fill it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lora_cli.errors import Where
from lora_cli.recipe.wording import shown

KeyPath = tuple[str | int, ...]


class _Unreadable:
    """Stands where a value could not be read: its problem is known, nothing follows from it."""

    def __repr__(self) -> str:
        return "UNREADABLE"


UNREADABLE = _Unreadable()


def dotted(path: KeyPath) -> str:
    """Return `a.b.0.c` as `a.b[0].c`, the way a reader would write it."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{shown(part)}" if text else shown(part)
    return text


@dataclass(frozen=True)
class Source:
    """The positions of a recipe's keys and values, whatever was overridden from a flag.

    `written` holds bare scalars as they stand in the file: `1.10` is more than the number 1.1.
    `renamed` holds misspelt keys by the path they were read as.
    """

    file: str
    keys: Mapping[KeyPath, Where] = field(default_factory=dict)
    values: Mapping[KeyPath, Where] = field(default_factory=dict)
    written: Mapping[KeyPath, str] = field(default_factory=dict)
    renamed: Mapping[KeyPath, str] = field(default_factory=dict)

    def of_key(self, path: KeyPath) -> Where:
        """Return where the key of `path` stands, or the nearest section around it."""
        return self._nearest(self.keys, path)

    def of_value(self, path: KeyPath) -> Where:
        """Return where the value of `path` stands, or the nearest section around it."""
        return self._nearest(self.values, path)

    def wrote(self, path: KeyPath) -> bool:
        """Return whether the user wrote this very key (or its list item)."""
        return path in self.values

    def text(self, path: KeyPath) -> str:
        """Return the bare scalar at `path` as it was written; empty if it was none."""
        return self.written.get(self._in_file(path), "")

    def _nearest(self, places: Mapping[KeyPath, Where], path: KeyPath) -> Where:
        written = self._in_file(path)
        for length in range(len(written), 0, -1):
            if place := places.get(written[:length]):
                return replace(place, key=dotted(path))
        # the first key of the file: nothing nearer is known
        return replace(self.values.get((), Where(self.file)), key=dotted(path))

    def _in_file(self, path: KeyPath) -> KeyPath:
        """Return `path` with the keys as the user spelt them."""
        if not self.renamed:
            return path
        return tuple(self.renamed.get(path[: n + 1], part) for n, part in enumerate(path))
