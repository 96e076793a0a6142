"""Did you mean: the nearest key or value, and what other tools' names are called here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from lora_cli.recipe.foreign_names import FOREIGN_NAMES, NOTE_PREFIXES, NOTES
from lora_cli.recipe.foreign_values import foreign_value, value_note
from lora_cli.recipe.scalars import odd_space

NEAR = 0.7
NEAR_ELSEWHERE = 0.85
"""A word from another section, or of another tool, must be nearer to be worth a question."""
SHORTEST_WORD = 5
LONGEST_WORD = 40
MOST_LISTED = 15
"""Keys of a section that are named where none is near."""


class Suggestion(NamedTuple):
    """What to write instead of an unknown key: in words, and as a key (and value)."""

    text: str
    key: str = ""


def closest(word: str, candidates: Iterable[str], cutoff: float = NEAR) -> str | None:
    """Return the candidate nearest to `word`, or None if none is near."""
    if len(word) > LONGEST_WORD:
        return None
    by_folded = {_fold(candidate): candidate for candidate in candidates}
    if (folded := _fold(word)) in by_folded:
        return by_folded[folded]
    matches = difflib.get_close_matches(folded, by_folded, n=1, cutoff=cutoff)
    return by_folded[matches[0]] if matches else None


def similarity(word: str, candidate: str) -> float:
    """Return how alike two words are, from 0 to 1."""
    if len(word) > LONGEST_WORD:
        return 0.0
    return difflib.SequenceMatcher(None, _fold(word), _fold(candidate)).ratio()


def _fold(word: str) -> str:
    return re.sub(r"[\W_]", "", word).lower()


def key_suggestion(
    section: str,
    word: str,
    siblings: Iterable[str],
    *,
    taken: Collection[str],
    in_flag: bool = False,
    all_keys: Collection[str],
) -> Suggestion:
    """Return what to write instead of the unknown key `word` in `section` (dotted, or empty).

    `siblings` are the keys of the section, `taken` those that are written already; `in_flag` says
    that the word stands in a `--set`. Names that
    are known exactly, here or in another tool, come before names that only look alike.
    """
    if trap := odd_space(word):
        return Suggestion(trap.hint)
    prefix = f"{section}." if section else ""
    if "." in word and f"{prefix}{word}" in all_keys:
        first, _, rest = word.partition(".")
        return Suggestion(f"a dot does not nest: write `{rest}` under `{first}:`, indented")
    suggestion = _exact(section, word.lower().replace("-", "_"))
    if suggestion is None and (near := closest(word, siblings) or _part_of(word, siblings)):
        suggestion = _meant([f"{prefix}{near}"])
    if suggestion is None and (elsewhere := _named(word, all_keys, prefix)):
        suggestion = _meant(elsewhere)
    if suggestion is None:
        suggestion = _alike(section, word, siblings, all_keys)
    if suggestion.key and suggestion.key.removeprefix(prefix) in taken:
        hint = "leave this out of the flag" if in_flag else "remove this line"
        return Suggestion(f"`{suggestion.key}` is there already: {hint}", suggestion.key)
    return suggestion


def _exact(section: str, word: str) -> Suggestion | None:
    """Return what a name that other tools use is called here."""
    ours = FOREIGN_NAMES.get(f"{section}.{word}") or FOREIGN_NAMES.get(word)
    if ours and ours != section:
        return _meant([ours])
    note = NOTES.get(f"{section}.{word}") or NOTES.get(word) or _prefix_note(word)
    return Suggestion(note) if note else None


def _part_of(word: str, siblings: Iterable[str]) -> str | None:
    """Return the one sibling of which `word` is a part: `rows` is `max_rows`."""
    found = [name for name in siblings if word.lower() in name.split("_")]
    return found[0] if len(found) == 1 else None


def _alike(
    section: str, word: str, siblings: Iterable[str], all_keys: Collection[str]
) -> Suggestion:
    """Return the key that looks like `word`, here or as another tool spells it; else all keys."""
    prefix = f"{section}." if section else ""
    last_parts = dict.fromkeys(key.rpartition(".")[2] for key in all_keys)
    if near := closest(word, last_parts, NEAR_ELSEWHERE):
        return _meant(_named(near, all_keys, prefix))
    foreign = [name for name in FOREIGN_NAMES if len(word) >= SHORTEST_WORD and "." not in name]
    if near := closest(word, foreign, NEAR_ELSEWHERE):
        return _meant([FOREIGN_NAMES[near]])
    if near := closest(word, NOTES, NEAR_ELSEWHERE):
        return Suggestion(NOTES[near])
    place = f"`{section}`" if section else "a recipe"
    return Suggestion(f"{place} has: {_listing(list(siblings))}")


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _named(word: str, all_keys: Iterable[str], prefix: str) -> list[str]:
    """Return the keys whose last part is `word`; those below `prefix` alone, if there are any."""
    found = [key for key in all_keys if key.rpartition(".")[2] == word]
    return [key for key in found if prefix and key.startswith(prefix)] or found


def _prefix_note(word: str) -> str:
    return next((note for prefix, note in NOTE_PREFIXES.items() if word.startswith(prefix)), "")


def _meant(keys: list[str]) -> Suggestion:
    listing = " or ".join(f"`{key}`" for key in keys)
    return Suggestion(f"did you mean {listing}?", keys[0])


def value_hint(key: str, value: object, allowed: Iterable[str]) -> str:
    """Return the allowed values of `key`, the one that was meant first where there is one."""
    options = list(allowed)
    word = str(value)
    listing = f"allowed: {', '.join(options)}"
    if note := value_note(key, word):
        return f"{note}; {listing}"
    ours = foreign_value(key, word)
    meant = ours if ours in options else closest(word, options, cutoff=0.6)
    return f"did you mean `{meant}`? {listing}" if meant and word else listing
