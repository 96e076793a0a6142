"""The account of a source's rows: every one counted, those that are not used with their reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_cli.data.encode_rows import Dropped, EncodedChunk
from lora_cli.facts.dataset import DroppedRow, DroppedRows, NotedRows

NAMED = 100
"""Rows that are told with file and line; the others are counted by reason."""
REASONS = 20
"""Different reasons that are counted apart."""
COLUMNS = 100
"""Different columns that are told to be unused."""
OTHER = "other reasons"
FIGURES = re.compile(r"\d[\d,.]*")


@dataclass
class Tally:
    """Rows that are not used: all counted by reason, the first ones told."""

    first: list[Dropped] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, row: Dropped) -> None:
        """Count a row."""
        if len(self.first) < NAMED:
            self.first.append(row)
        reason = FIGURES.sub("…", row.reason)
        known = reason in self.reasons or len(self.reasons) < REASONS
        self.reasons[reason if known else OTHER] += 1

    def as_json(self) -> dict[str, Any]:
        """Return the tally as plain values; files are numbers, for they may be moved."""
        return {"first": self.first, "reasons": self.reasons.most_common()}


@dataclass
class RowAccount:
    """Counts rows as they come, in memory that does not grow with them."""

    rows: int = 0
    kept: int = 0
    bad: Tally = field(default_factory=Tally)
    too_long: Tally = field(default_factory=Tally)
    """Rows that are as they should be; they stop nothing."""
    control_tokens: Tally = field(default_factory=Tally)
    """Rows that are kept, with control tokens typed in them."""
    unused: dict[str, None] = field(default_factory=dict)

    def add(self, chunk: EncodedChunk) -> None:
        """Count a chunk's rows."""
        self.rows += chunk.rows
        self.kept += chunk.kept
        for row in chunk.dropped:
            self.drop(row)
        for row in chunk.control_tokens:
            self.control_tokens.add(row)
        for column in chunk.unused_columns:
            if len(self.unused) < COLUMNS:
                self.unused[column] = None

    def drop(self, row: Dropped) -> None:
        """Note why a row is not used."""
        (self.too_long if row.too_long else self.bad).add(row)

    def as_json(self) -> dict[str, Any]:
        """Return the account as plain values."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "bad": self.bad.as_json(),
            "too_long": self.too_long.as_json(),
            "control_tokens": self.control_tokens.as_json(),
            "unused": list(self.unused),
        }


def noted_rows(tally: Mapping[str, Any], files: Sequence[Path]) -> NotedRows:
    """Return rows that are used and worth a look from a tally as plain values."""
    count = sum(count for _, count in tally["reasons"])
    return NotedRows(count, _named([tally], files))


def dropped_rows(tallies: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> DroppedRows:
    """Return the rows that are not used from tallies as plain values."""
    reasons = Counter[str]()
    for tally in tallies:
        reasons.update(dict(tally["reasons"]))
    return DroppedRows(
        count=reasons.total(),
        first=_named(tallies, files),
        by_reason=tuple(reasons.most_common()),
    )


def _named(tallies: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> tuple[DroppedRow, ...]:
    first = (Dropped(*values) for tally in tallies for values in tally["first"])
    return tuple(
        DroppedRow(str(files[row.file]), row.line, row.reason, row.column) for row in first
    )
