"""What each written pattern matched and what it passed by, what is meant twice, which towers.

Every pattern is looked at by itself: one that means nothing is a problem, also beside others.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lora_cli.adapters.targeted import TargetRegex
from lora_cli.errors import Problem
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.targets.cost import Choice
from lora_cli.targets.layers import pattern_of, ranges
from lora_cli.targets.names import is_meant
from lora_cli.targets.parts import tower_of
from lora_cli.targets.roles import layer_of
from lora_cli.targets.written import OPTION, Written

MOST_NEAR = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Modules of one name, whatever their layers, and how many."""

    pattern: str
    count: int
    layers: str


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """What one pattern means in a base."""

    pattern: str
    regex: str
    """What a recipe says for it, where that is another text."""
    modules: int
    places: tuple[Place, ...]
    passed_by: tuple[Place, ...]
    """Modules of the same names that it does not mean."""
    towers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Twice:
    """Modules that several patterns mean."""

    place: Place
    patterns: tuple[str, ...]


def explained(written: Sequence[Written], base: BaseModelFacts) -> tuple[PatternMatch, ...]:
    """Return what each name, pattern and expression means; presets speak for themselves."""
    return tuple(_explained(each, base) for each in _patterns(written))


def meant_twice(written: Sequence[Written], base: BaseModelFacts) -> tuple[Twice, ...]:
    """Return the modules that several of the patterns mean."""
    by: dict[str, list[str]] = defaultdict(list)
    for each in _patterns(written):
        for name in _meant(each, base):
            by[name].append(each.text)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, patterns in by.items():
        if len(patterns) > 1:
            groups[tuple(patterns)].append(name)
    return tuple(
        Twice(place, patterns) for patterns, names in groups.items() for place in _places(names)
    )


def unmatched(written: Sequence[Written], base: BaseModelFacts) -> list[Problem]:
    """Return a problem for each pattern that means no module.

    A list of names alone is for `problems` to judge, which knows more to say of them.
    """
    if all(each.form == "name" for each in _patterns(written)):
        return []
    return [_nothing(each, base) for each in _patterns(written) if not _meant(each, base)]


def _nothing(written: Written, base: BaseModelFacts) -> Problem:
    names = [each.name for each in base.linears]
    message = f"`{written.text}` matches no linear layer of {base.architecture}"
    as_regex = TargetRegex(regex=written.text)
    if written.form == "glob" and _is_regex(written.text):
        count = sum(is_meant(name, as_regex) for name in names)
        if count:
            hint = f"as a regular expression it matches {count}: write '{{regex: {written.text}}}'"
            return Problem(OPTION, message, hint)
    near = ", ".join(f"`{name}`" for name in _near(written.text, names))
    return Problem(OPTION, message, f"the nearest are {near}" if near else "")


def _near(text: str, names: Sequence[str]) -> list[str]:
    """Return the names most like a pattern, with `*` for layers, once each."""
    patterns = list(dict.fromkeys(map(pattern_of, names)))
    plain = re.sub(r"[^\w.*]|\.\*", "", text)
    ends = {pattern: pattern for pattern in patterns}
    ends |= {".".join(p.split(".")[-2:]): p for p in reversed(patterns)}
    ends |= {p.rpartition(".")[2]: p for p in reversed(patterns)}
    found = difflib.get_close_matches(plain, ends, n=2 * MOST_NEAR, cutoff=0.5)
    return list(dict.fromkeys(ends[end] for end in found))[:MOST_NEAR] or patterns[:MOST_NEAR]


def _is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _patterns(written: Sequence[Written]) -> Iterator[Written]:
    yield from (each for each in written if each.form != "preset")


def _meant(written: Written, base: BaseModelFacts) -> list[str]:
    head = (base.output_head,) if base.output_head else ()
    every = [each.name for each in (base.embedding, *base.linears, *head) if each.name]
    return [name for name in every if is_meant(name, written.meaning)]


def _explained(written: Written, base: BaseModelFacts) -> PatternMatch:
    names = _meant(written, base)
    patterns = {pattern_of(name) for name in names}
    alike = [each.name for each in base.linears if pattern_of(each.name) in patterns]
    return PatternMatch(
        pattern=written.text,
        regex=written.expression if written.form == "glob" else "",
        modules=len(names),
        places=_places(names),
        passed_by=_places([name for name in alike if name not in names]),
        towers=tuple(dict.fromkeys(filter(None, map(tower_of, names)))),
    )


def _places(names: Sequence[str]) -> tuple[Place, ...]:
    counts = Counter(map(pattern_of, names))
    layers: dict[str, list[int]] = defaultdict(list)
    for name in names:
        if (layer := layer_of(name)) is not None:
            layers[pattern_of(name)].append(layer)
    return tuple(Place(each, count, ranges(layers[each])) for each, count in counts.items())


@dataclass(frozen=True, slots=True)
class TowerTouched:
    """A tower beside the main one that the adapter takes a part of."""

    tower: str
    modules: int
    trainable: int
    asked_for: bool
    """Whether a pattern names it, or something in it."""
    leave_out: str
    """The expression for `exclude_modules` that leaves it out."""


def towers_touched(
    choice: Choice, base: BaseModelFacts, written: Sequence[Written]
) -> tuple[TowerTouched, ...]:
    """Return the towers that the choice reaches into, where the model has a main part as well."""
    names = [each.name for each in base.linears]
    if not any(layer_of(name) is not None and not tower_of(name) for name in names):
        return ()
    members: dict[str, list[str]] = defaultdict(list)
    for module in choice.matched.modules:
        members[tower_of(module.name)].append(module.name)
    words = [word for each in written for word in re.split(r"[^A-Za-z_]+", each.text)]
    return tuple(
        TowerTouched(
            tower,
            len(names),
            choice.trainable_in(frozenset(names)),
            asked_for=any(tower_of(word) == tower for word in words if word),
            leave_out=_only(names),
        )
        for tower, names in members.items()
        if tower
    )


def _only(names: Sequence[str]) -> str:
    """Return an expression for the smallest parts of the model that are this tower, with all in."""
    tower, roots = tower_of(names[0]), []
    for name in names:
        parts = name.split(".")
        depth = next(n for n in range(1, len(parts) + 1) if tower_of(".".join(parts[:n])) == tower)
        roots.append(".".join(parts[:depth]))
    found = [root.replace(".", r"\.") + r"(?:\..*)?" for root in dict.fromkeys(roots)]
    return "|".join(found)
