"""What every reader gives: a row as it stands in its file, or the reason why it is none."""

from __future__ import annotations

from typing import Any, NamedTuple

LONGEST_ROW = 64 << 20
"""Bytes of one row, before it is an error: what is longer is no row but a broken file."""


class RawRow(NamedTuple):
    """One row: where it stands, and its columns, or what is wrong with it and where.

    `line` counts from 1: lines where a row begins on a line of its own, rows in a JSON document
    and in files without lines. It is another one for each row of a file, and only grows.
    """

    line: int
    columns: dict[str, Any] | None
    reason: str = ""
    column: int = 0
    """Where in the line it is wrong, from 1; 0 if that is not known."""
