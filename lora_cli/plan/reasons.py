"""Where a value came from: the recipe's line, a flag, a default, or a measurement."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lora_cli.plan.run_plan import Decision
from lora_cli.recipe.fields import sections_at
from lora_cli.recipe.source import KeyPath, Source, dotted


@dataclass
class Reasons:
    """Collects the plan's decisions, in the order in which they are made."""

    source: Source
    decisions: list[Decision] = field(default_factory=list)

    def note(self, key: str, value: object, reason: str) -> None:
        """Note a value that was computed or measured."""
        self.decisions.append(Decision(field=key, value=_shown(value), reason=reason))

    def take(
        self, *path: str | int, value: object, default: str = "default", measured: str = ""
    ) -> None:
        """Note a value that the recipe gives, or that a default fills in.

        `measured` is why a value was taken that the recipe leaves open; it outweighs the recipe's
        line, where `auto` may stand.
        """
        self.note(dotted(path), value, measured or self._origin(path) or default)

    def _origin(self, path: KeyPath) -> str | None:
        """Return where the recipe says it: at the key, or at the scalar that stands for it."""
        keys = _spellings(path)
        shorthands = [key[:-1] for key in keys if _is_main(key) and self._is_scalar(key[:-1])]
        for written in filter(self.source.wrote, [*keys, *shorthands]):
            where = self.source.of_value(written)
            is_flag = where.file.startswith("--set")
            return "--set" if is_flag else f"{Path(where.file).name}:{where.line}"
        return None

    def _is_scalar(self, path: KeyPath) -> bool:
        """Return whether neither a mapping nor a list stands at `path`."""
        longer = (known for known in self.source.values if len(known) > len(path))
        return all(known[: len(path)] != path for known in longer)


def _spellings(path: KeyPath) -> list[KeyPath]:
    """Return the ways to write a key: a single data set needs no list around it."""
    return [path, (path[0], *path[2:])] if path[0] == "dataset" else [path]


def _is_main(path: KeyPath) -> bool:
    """Return whether a scalar in the section's place stands for this key."""
    return any(section.main_field == path[-1] for section in sections_at(path[:-1]))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, int):
        return f"{value:,}"
    # a line end would break the tables that decisions stand in
    return "none" if value is None else str(value).replace("\n", "\\n")
