"""How the user's own words appear in a message: recognisable, on one line, safe to print.

This module does not know where a value stands or what it should have been.
"""

from __future__ import annotations

from typing import Any

LONGEST = 60


def shown(text: str) -> str:
    """Return text for one line of a terminal: nothing invisible, long text without its middle."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 20]} … {text[-15:]}"
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def given(value: Any, written: str) -> str:
    """Return a value as the user gave it: as `written` where it was bare."""
    return shown(written or str(value))


def kind(value: Any, written: str = "") -> str:
    """Return what a value is, in words: `a list`, `the number 1.10` (as `written`)."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        word = str(value).lower()
        bare = written.lower() in ("", word)
        return word if bare else f"`{written}`, which some YAML readers take for {word}"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, int | float):
        return f"the number {given(value, written)}"
    return f'the text "{shown(str(value))}"' if value else "an empty text"
