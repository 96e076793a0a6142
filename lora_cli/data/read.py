"""A JSONL file → rows with their line numbers, or the reason why a line is none.

This module does not know what a row means (`formats`) or what happens to bad ones (`load`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class RawRow:
    """One line: its number from 1, and its columns, or what is wrong with it."""

    line: int
    columns: dict[str, Any] | None
    reason: str = ""


def read_jsonl(path: Path) -> Iterator[RawRow]:
    """Give the rows of a JSONL file in order; blank lines are no rows."""
    with path.open("rb") as file:
        for line, content in enumerate(file, 1):
            data = content.removeprefix(b"\xef\xbb\xbf") if line == 1 else content
            if data.strip():
                yield _row(line, data)


def _row(line: int, content: bytes) -> RawRow:
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return RawRow(line, None, f"not UTF-8 at byte {error.start + 1} of the line")
    except json.JSONDecodeError as error:
        return RawRow(line, None, f"not JSON at column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:
        return RawRow(line, None, f"not JSON: {error}")
    if not isinstance(value, dict):
        return RawRow(line, None, f"a row is a mapping of columns, not {type(value).__name__}")
    return RawRow(line, value)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"`{name}` is not JSON")
