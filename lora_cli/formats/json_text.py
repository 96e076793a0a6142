"""JSON inside a cell: tool definitions, calls and their arguments often stand there as text."""

from __future__ import annotations

import json
from typing import Any

from lora_cli.formats.row_format import RowProblemError


def parsed(value: Any, what: str) -> Any:
    """Return a value, read as JSON where it is text; `what` it is stands in the error.

    Raises:
        RowProblemError: the text is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, object_pairs_hook=_different_keys, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise RowProblemError(f"{what}: text that is not JSON: {error.msg} ({place})") from error
    except (ValueError, RecursionError) as error:
        raise RowProblemError(f"{what}: text that is not JSON: {error}") from error


def _different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key is written twice in one mapping")
    return mapping


def _refuse(name: str) -> None:
    raise ValueError(f"`{name}` is no number of JSON")
