"""`{% generation %}` marks: what a chat template says that the assistant writes.

The marks are rendered as two characters that no text holds, and read back from the rendering:
unlike positions that are counted while a template runs, they stay right inside its macros, its
`set` blocks and its filters.
"""

from __future__ import annotations

import re
from functools import lru_cache

START, END = "\ufdd0", "\ufdd1"
"""Two of Unicode's noncharacters, which are never part of an exchanged text."""
OPENING = re.compile(r"\{%([-+]?)\s*generation\s*([-+]?)%\}(\n?)")
CLOSING = re.compile(r"(^[ \t]*)?\{%([-+]?)\s*endgeneration\s*([-+]?)%\}", re.MULTILINE)

Spans = tuple[tuple[int, int], ...]
"""Parts of a text as (start, end), in characters."""


def has_marks(template: str) -> bool:
    """Return whether the template marks anything."""
    return OPENING.search(template) is not None


@lru_cache(maxsize=8)
def with_marks(template: str) -> str:
    """Return the template with its marks written out; white space around them goes as before."""
    return CLOSING.sub(_close, OPENING.sub(_open, template))


def _open(tag: re.Match[str]) -> str:
    before, after, newline = tag.groups()
    # Jinja drops the newline after a tag, but not after an expression
    kept = newline if after else ""
    trim = "-" if after == "-" else ""
    return f"{{%{before} generation %}}{{{{ '{START}' {trim}}}}}{kept}"


def _close(tag: re.Match[str]) -> str:
    indent, before, after = tag.groups()
    # Jinja drops the white space between a line's start and a tag, but not before an expression
    kept = (indent or "") if before == "+" else ""
    trim = "-" if before == "-" else ""
    return f"{kept}{{{{{trim} '{END}' }}}}{{% endgeneration {after}%}}"


def read_marks(rendered: str) -> tuple[str, Spans] | None:
    """Return the text without its marks, and what they enclose; None if they do not pair up."""
    pieces = re.split(f"[{START}{END}]", rendered)
    signs = re.findall(f"[{START}{END}]", rendered)
    if signs != [START, END] * (len(signs) // 2):
        return None
    spans: list[tuple[int, int]] = []
    length = 0
    for number, piece in enumerate(pieces):
        if number % 2:
            spans.append((length, length + len(piece)))
        length += len(piece)
    return "".join(pieces), tuple(spans)
