"""Where a value came from: the recipe's line, a flag, a default, or a measurement."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lora_cli.plan.run_plan import Decision
from lora_cli.recipe.source import KeyPath, Source, dotted


@dataclass
class Reasons:
    """Collects the plan's decisions, in the order in which they are made."""

    source: Source
    decisions: list[Decision] = field(default_factory=list)

    def note(self, key: str, value: object, reason: str) -> None:
        """Note a value that was computed or measured."""
        self.decisions.append(Decision(field=key, value=_shown(value), reason=reason))

    def take(self, *path: str | int, value: object, default: str = "default") -> None:
        """Note a value that the recipe gives, or that a default fills in."""
        self.note(dotted(path), value, self._origin(path) or default)

    def _origin(self, path: KeyPath) -> str | None:
        """Return where the recipe says it: at the key, or at the scalar that stands for it."""
        for candidate in _spellings(path):
            if self.source.wrote(candidate):
                where = self.source.of_value(candidate)
                if where.file.startswith("--set"):
                    return "--set"
                return f"{Path(where.file).name}:{where.line}"
        return None


def _spellings(path: KeyPath) -> list[KeyPath]:
    """Return the ways a key can be written: without its list index, or as its section's scalar."""
    spellings = [path]
    if len(path) > 1 and path[0] == "dataset":
        spellings.append((path[0], *path[2:]))
    shorthand = {"name", "variant", "method", "path", "split", "dir", "metric"}
    return spellings + [p[:-1] for p in spellings if p[-1] in shorthand and len(p) > 1]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else str(value)
