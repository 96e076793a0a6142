"""A JSONL file → rows with their line numbers, or the reason why a line is none.

This module does not know what a row means (`formats`) or what happens to bad ones (`source`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_cli.formats.row_format import kind_of

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RawRow:
    """One line: its number from 1, and its columns, or what is wrong with it and where."""

    line: int
    columns: dict[str, Any] | None
    reason: str = ""
    column: int = 0
    """Where in the line it is wrong, from 1; 0 if that is not known."""


def read_jsonl(path: Path) -> Iterator[RawRow]:
    """Give the rows of a JSONL file in order; blank lines are no rows.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for line, content in enumerate(file, 1):
            data = content.removeprefix(BYTE_ORDER_MARK) if line == 1 else content
            if data.strip():
                yield _row(line, data.rstrip(b"\r\n"))


def _row(line: int, content: bytes) -> RawRow:
    try:
        value = json.loads(
            content.decode("utf-8"),
            parse_int=_integer,
            parse_constant=_refuse_constant,
            object_pairs_hook=_mapping_of_different_keys,
        )
        _check_surrogates(content, value)
    except UnicodeDecodeError as error:
        return RawRow(line, None, f"not UTF-8 at byte {error.start + 1} of the line")
    except json.JSONDecodeError as error:
        return RawRow(line, None, f"not JSON: {error.msg}", error.colno)
    except ValueError as error:
        return RawRow(line, None, f"not JSON: {error}")
    except RecursionError:
        return RawRow(line, None, "not JSON that can be read: it is nested too deeply")
    if not isinstance(value, dict):
        return RawRow(line, None, f"a row is a mapping of columns, not {kind_of(value)}")
    return RawRow(line, value)


def _mapping_of_different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"`{twice}` is written twice in one mapping")
    return mapping


def _check_surrogates(content: bytes, value: Any) -> None:
    """Refuse one half of an escaped surrogate pair: no text in any encoding holds it."""
    if b"\\u" in content:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half a character (a `\\ud…` escape without its pair)") from None


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python reads no more than some thousand digits
        raise ValueError(f"a number of {len(digits.lstrip('-')):,} digits is too long") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"`{name}` is no number of JSON")
