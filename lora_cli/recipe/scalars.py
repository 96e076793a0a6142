"""A bare YAML scalar → its value, or why nobody should have to guess it.

The values are those of YAML 1.2's core schema, so that `1e-4` is a number and a date is text.
What YAML readers disagree on is never a guess: `010`, `1_000` and `1:30` are traps, and a bare
`yes` is a boolean that no field takes (`checks`), so that each can say what to write.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from math import isfinite

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
DISPUTED_BOOLEANS = {
    **dict.fromkeys(("yes", "Yes", "YES", "on", "On", "ON", "y", "Y"), True),
    **dict.fromkeys(("no", "No", "NO", "off", "Off", "OFF", "n", "N"), False),
}
"""Booleans in YAML 1.1, words in 1.2."""
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **DISPUTED_BOOLEANS,
}
_ODD = "[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
# where a plain space would be no part of the text: around it, after `key:` and after `-`
_ODD_SPACE = re.compile(rf"^(?:\w+:|-)?{_ODD}|{_ODD}$")
_CURLY_QUOTES = tuple("‘’‚‛“”„‟")


@dataclass(frozen=True)
class Trap:
    """A scalar that has no one meaning: what is wrong with it and what to write."""

    message: str
    hint: str


def read_scalar(text: str) -> Scalar | Trap:
    """Return the value of a bare scalar; only nulls are the caller's own business."""
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text.startswith(_CURLY_QUOTES):
        message = f"curly quotes are no quotes in YAML: `{shown(text)}`"
        return Trap(message, "write plain quotes, \" or '")
    if trap := odd_space(text):
        return trap
    if not text[:1].isdigit() and text[:1] not in ("+", "-", "."):
        return text
    if any(form.fullmatch(text) for form in _DISPUTED_NUMBERS):
        message = f"YAML readers disagree on the number `{shown(text)}`"
        return Trap(message, "write it in plain decimal digits, or in quotes for text")
    return _number(text)


def odd_space(text: str) -> Trap | None:
    """Return the problem with a space that YAML takes for a letter, if there is one."""
    found = _ODD_SPACE.search(text)
    if found is None:
        return None
    space = found[0][-1]
    message = f"a space that YAML takes for a letter: `{shown(text)}`"
    name = unicodedata.name(space).lower()
    return Trap(message, f"replace the {name} (U+{ord(space):04X}) by a plain space")


def _number(text: str) -> Scalar | Trap:
    if INTEGER.fullmatch(text):
        return int(text) if len(text) <= LONGEST_INTEGER else _too_large(text)
    if FLOAT.fullmatch(text):
        return float(text) if isfinite(float(text)) else _too_large(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text


def _too_large(text: str) -> Trap:
    message = f"too large a number: `{shown(text)}`"
    return Trap(message, "write a smaller one, or put it in quotes for text")
