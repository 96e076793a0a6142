"""JSON as loracli takes it: no key twice, no NaN, no half characters.

The quick way reads what is right; what it trips over is read once more for a reason in words.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lora_cli.data.readers.open_file import BYTE_ORDER_MARK, NUL
from lora_cli.data.readers.raw_row import RawRow
from lora_cli.formats.row_format import kind_of

OPEN_STRING = "a string that is not closed"
odd_escape = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)").search
"""Finds escapes that may be half a character or none, where `json` sees nothing wrong."""
holds_nul = re.compile(r"(?<!\\)(?:\\\\)*\\u0000").search
"""Finds a NUL that is written in JSON: what a backslash escapes is text."""


def row_of(line: int, content: bytes) -> RawRow:
    """Return the row that a line holds: one mapping."""
    stripped = content.strip(b" \t\r\n")
    try:
        text = stripped.decode()
        value, end = QUICK.raw_decode(text)
    except (ValueError, RecursionError):
        return _row_in_words(line, content)
    if end == len(text) and type(value) is dict and not odd_escape(stripped):
        return RawRow(line, value)
    return _row_in_words(line, content)


def row_of_value(line: int, value: Any) -> RawRow:
    """Return the row that a value is: a mapping."""
    if isinstance(value, dict):
        return RawRow(line, value)
    return RawRow(line, None, f"a row is a mapping of columns, not {kind_of(value)}")


def half_character(value: Any) -> str:
    """Return what is wrong where text holds half of an escaped pair, which no encoding writes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "half a character (a `\\ud…` escape without its pair)"
    return ""


def _row_in_words(line: int, content: bytes) -> RawRow:
    """Return the row, or why there is none."""
    try:
        text = content.rstrip(b"\r\n").decode("utf-8")
        value = STRICT.decode(text)
    except UnicodeDecodeError as error:
        return RawRow(line, None, f"not UTF-8 at byte {error.start + 1} of the line")
    except json.JSONDecodeError as error:
        return RawRow(line, None, _syntax(content, error), error.colno)
    except ValueError as error:
        return RawRow(line, None, f"not JSON: {error}")
    except RecursionError:
        return RawRow(line, None, "not JSON that can be read: it is nested too deeply")
    return _odd_escape_of(line, text, value) or row_of_value(line, value)


def _odd_escape_of(line: int, text: str, value: Any) -> RawRow | None:
    """Return what is wrong with the escapes in a line of JSON; None if nothing is."""
    if odd_escape(text.encode()) and (flaw := half_character(value)):
        return RawRow(line, None, f"not JSON: {flaw}")
    nul = holds_nul(text)
    return RawRow(line, None, NUL, nul.end() - len("u0000")) if nul else None


def _syntax(content: bytes, error: json.JSONDecodeError) -> str:
    if error.msg == "Extra data" and b"\r" in content.strip():
        return "lines end in CR alone: write them with LF, as `tr '\\r' '\\n'` does"
    if content.startswith(BYTE_ORDER_MARK):
        return "a byte order mark inside the file, as where files were joined: remove it"
    return syntax_in_words(error)


def syntax_in_words(error: json.JSONDecodeError) -> str:
    """Return what is wrong with the syntax, where Python's words would break off."""
    sign = error.doc[error.pos : error.pos + 1]
    if sign == "\0":
        return NUL
    if error.msg.startswith("Invalid control character"):
        return f"not JSON: the control character {sign!a}, which is written {json.dumps(sign)}"
    return f"not JSON: {error.msg.replace('Unterminated string starting at', OPEN_STRING)}"


def _mapping_of_different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"`{twice}` is written twice in one mapping")
    return mapping


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python reads no more than some thousand digits
        raise ValueError(f"a number of {len(digits.lstrip('-')):,} digits is too long") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"`{name}` is no number of JSON")


QUICK = json.JSONDecoder(
    object_pairs_hook=_mapping_of_different_keys, parse_constant=_refuse_constant
)
STRICT = json.JSONDecoder(
    object_pairs_hook=_mapping_of_different_keys,
    parse_constant=_refuse_constant,
    parse_int=_integer,
)
