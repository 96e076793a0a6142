"""`--targets`: names, patterns and expressions as they are typed → what a recipe says for them.

A recipe has presets, lists of names and one regular expression; a pattern with `*` becomes the
expression that means the same. This module does not know any model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lora_cli.adapters.targeted import TargetPreset, TargetRegex
from lora_cli.errors import InspectError, Where

EXPERTS = "experts"
OPTION = Where("--targets")
_Form = Literal["preset", "name", "glob", "regex"]
_AS_RECIPE = re.compile(r"\{\s*regex:\s*(?P<quote>['\"]?)(?P<regex>.*)(?P=quote)\s*\}")
_SPLIT = re.compile(r",(?![^\[\]]*\])")


@dataclass(frozen=True, slots=True)
class Written:
    """One pattern, and its form."""

    text: str
    form: _Form

    @property
    def meaning(self) -> tuple[str, ...] | TargetRegex:
        """Return what it means, as a recipe has it; for names and patterns."""
        if self.form == "name":
            return (self.text,)
        return TargetRegex(regex=self.expression)

    @property
    def expression(self) -> str:
        """Return the regular expression that matches the whole names it means."""
        if self.form == "regex":
            return self.text
        return regex_of_glob(self.text) if self.form == "glob" else rf"(?:.*\.)?{_plain(self.text)}"


def read_targets(texts: Iterable[str]) -> tuple[Written, ...]:
    """Return the patterns of `--targets`, which can be given again and again, or with commas.

    Raises:
        InspectError: one is empty, is no expression, or a preset does not stand alone.
    """
    found = tuple(written for text in texts for written in _read(text))
    presets = [each for each in found if each.form == "preset" and each.text != EXPERTS]
    rest = [each for each in found if each.text != EXPERTS]
    if presets and len(rest) > 1:
        message = f"`{presets[0].text}` means several modules already, and stands alone"
        raise InspectError(message, OPTION, "give one preset, or names and patterns")
    if found and not rest:
        message = "`experts` alone: peft needs a layer beside them"
        raise InspectError(message, OPTION, "such as `--targets attention,experts`")
    return found


def _read(text: str) -> Iterable[Written]:
    if found := _AS_RECIPE.fullmatch(text.strip()):
        return [_checked(Written(found["regex"], "regex"))]
    return [_checked(Written(part, _form(part))) for part in map(str.strip, _SPLIT.split(text))]


def _form(text: str) -> _Form:
    if text in (*get_args(TargetPreset), EXPERTS):
        return "preset"
    if re.search(r"[\\()|^$+{]", text):  # no module's name holds these
        return "regex"
    return "glob" if re.search(r"[*?\[]", text) else "name"


def _checked(written: Written) -> Written:
    if not written.text:
        hint = "name modules, such as `--targets q_proj,v_proj`, or leave the option out"
        raise InspectError("an empty pattern means no module", OPTION, hint)
    try:
        if written.form in ("glob", "regex"):
            re.compile(written.expression)
    except re.error as error:
        message = f"`{written.text}` is not a regular expression: {error}"
        hint = "Python's `re` syntax, matched against whole module names"
        raise InspectError(message, OPTION, hint) from error
    return written


def regex_of_glob(glob: str) -> str:
    r"""Return `*.self_attn.?_proj` as `.*\.self_attn\.._proj`.

    As names in a recipe do, a pattern means the end of a module's name, from a dot on.
    """
    parts = re.split(r"(\*|\?|\[[^\]]*\])", glob)
    return ("" if glob.startswith("*") else r"(?:.*\.)?") + "".join(map(_regex_of, parts))


def _regex_of(part: str) -> str:
    if part in ("*", "?"):
        return {"*": ".*", "?": "."}[part]
    if part.startswith("[") and part.endswith("]"):
        return part.replace("[!", "[^", 1)
    return _plain(part)


def _plain(text: str) -> str:
    """Return a text as an expression that matches just it, no more escaped than it must be."""
    return text.replace(".", r"\.")


def overrides_of(written: Sequence[Written]) -> tuple[str, ...]:
    """Return the patterns as `key=value`, for the recipe; nothing for none."""
    if not written:
        return ()
    named = [each for each in written if each.text != EXPERTS]
    found = [f"adapter.target_modules={json.dumps(_together(named), ensure_ascii=False)}"]
    if len(named) < len(written):
        found.append(f"adapter.target_parameters={EXPERTS}")
    return tuple(found)


def _together(written: Sequence[Written]) -> Any:
    if written[0].form == "preset":
        return written[0].text
    if all(each.form == "name" for each in written):
        return [each.text for each in written]
    expressions = [each.expression for each in written]
    if len(expressions) == 1:
        return {"regex": expressions[0]}
    return {"regex": "|".join(f"(?:{each})" for each in expressions)}
