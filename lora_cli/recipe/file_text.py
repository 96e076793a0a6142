"""A recipe file → its text, or why it is none."""

from __future__ import annotations

import re
from pathlib import Path

from lora_cli.errors import RecipeError, Where
from lora_cli.recipe.suggest import closest

MAX_BYTES = 256 * 1024
MOST_NEIGHBOURS = 6

_WRONG_FILE = "a recipe is YAML in UTF-8; is this the right file?"
# What YAML allows in a text, less the line ends that only some readers see (U+0085, U+2028, U+2029)
_REFUSED = re.compile(
    r"[^\t\n\r -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_LINE_END = re.compile("\r\n|\r|\n")


def read_text(path: Path) -> str:
    """Return the text of the recipe in `path`.

    Raises:
        RecipeError: there is no such file, or it is no text that a recipe could be.
    """
    where = Where(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError("does not exist", where, _neighbours(path)) from None
    except IsADirectoryError:
        raise RecipeError("is a folder", where, _recipes_in(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"cannot be read: {reason}", where, "check the path") from None
    if len(content) > MAX_BYTES:
        message = f"is larger than {MAX_BYTES:,} bytes, the most a recipe can have"
        raise RecipeError(message, where, "is this the recipe, or the data?")
    return _decoded(content, str(path))


def refused_character(text: str) -> tuple[int, str] | None:
    """Return the offset and the name of the first character that no recipe can hold."""
    found = _REFUSED.search(text)
    return (found.start(), f"U+{ord(found[0]):04X}") if found else None


def _decoded(content: bytes, file: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecipeError("is UTF-16 text", Where(file, 1, 1), "save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", "replace")
        raise RecipeError("is not UTF-8 text", _position(before, file), _WRONG_FILE) from None
    if refused := refused_character(text):
        offset, name = refused
        where = _position(text[:offset], file)
        hint = _WRONG_FILE if name == "U+0000" else "remove it, or write it as an escape in quotes"
        raise RecipeError(f"holds the character {name}", where, hint)
    return text


def _position(before: str, file: str) -> Where:
    """Return the place that follows the text `before`."""
    lines = _LINE_END.split(before)
    return Where(file, len(lines), len(lines[-1]) + 1)


def _neighbours(path: Path) -> str:
    folder = path.parent
    names = _recipe_names(folder)
    if near := closest(path.name, names):
        return f"did you mean {folder / near}?"
    return _recipes_in(folder)


def _recipes_in(folder: Path) -> str:
    names = _recipe_names(folder)[:MOST_NEIGHBOURS]
    return f"recipes in {folder}: {', '.join(names)}" if names else "name the recipe's .yaml file"


def _recipe_names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml"))
    except OSError:
        return []
