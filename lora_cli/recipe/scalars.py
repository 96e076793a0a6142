"""A bare YAML scalar → its value, or why nobody should have to guess it.

The values are those of YAML 1.2's core schema, so that `1e-4` is a number and a date is text.
What YAML readers disagree on (`yes`, `010`, `1_000`, `1:30`) is a trap, never a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lora_cli.recipe.wording import shown

Scalar = str | int | float | bool

INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
LONGEST_INTEGER = 24
NULLS = frozenset(("", "~", "null", "Null", "NULL"))

_DISPUTED_NUMBERS = (
    re.compile(r"[-+]?0[0-9_]+"),  # octal in YAML 1.1, decimal in 1.2
    re.compile(r"[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[oO][0-7_]+|[-+]?0[bB][01_]+"),
    re.compile(r"[-+]?(?=[^_]*_)[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?"),  # 1_000
    re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?"),  # 1:30, base 60 in YAML 1.1
)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_BOOLEAN_TRAPS = {
    **dict.fromkeys(("yes", "Yes", "YES", "on", "On", "ON", "y", "Y"), "true"),
    **dict.fromkeys(("no", "No", "NO", "off", "Off", "OFF", "n", "N"), "false"),
}


@dataclass(frozen=True)
class Trap:
    """A scalar that has no one meaning: what is wrong with it and what to write."""

    message: str
    hint: str


def read_scalar(text: str) -> Scalar | Trap:
    """Return the value of a bare scalar; only nulls are the caller's own business."""
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text in _BOOLEAN_TRAPS:
        message = f"YAML readers disagree on a bare `{text}`: some read a word, some a boolean"
        return Trap(message, f'write `{_BOOLEAN_TRAPS[text]}`, or "{text}" in quotes for the word')
    if not text[:1].isdigit() and text[:1] not in ("+", "-", "."):
        return text
    if any(form.fullmatch(text) for form in _DISPUTED_NUMBERS):
        message = f"YAML readers disagree on the number `{shown(text)}`"
        return Trap(message, "write it in plain decimal digits, or in quotes for text")
    return _number(text)


def _number(text: str) -> Scalar:
    if INTEGER.fullmatch(text) and len(text) <= LONGEST_INTEGER:
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text
