"""What the YAML parser stumbles over, in words about the text instead of about the parser.

This module does not know recipes: any text that is not YAML ends here.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from lora_cli.errors import Problem, Where
from lora_cli.recipe.scalars import odd_space
from lora_cli.recipe.wording import shown
from lora_cli.recipe.yaml_outline import Loader

LONGEST_KEY = 1024
"""YAML's own limit for a key on one line."""


class _Rule(NamedTuple):
    """What the parser says (a pattern), and what it means."""

    parser_says: str
    message: str
    hint: str
    at_start: bool = False
    """The place to mend is where the construct began, not where the parser gave up."""


_BARE_TEMPLATE = re.compile(r"(?: *(?:- +)?\w+: +)?(\{[{%])")
_ALIGN = "the keys of one section start in the same column"
_QUOTE = "put the value in quotes"
_RULES = (
    _Rule("single document", "a second document begins here", "one recipe a file: remove `---`"),
    _Rule("quoted scalar.*end of", "this quote is never closed", "add the closing quote", True),
    _Rule(
        "flow seq", "this `[` is not closed, or an item lacks its comma", "close it with `]`", True
    ),
    _Rule(
        "flow map", "this `{` is not closed, or an entry lacks its comma", "close it with `}`", True
    ),
    _Rule("text in brackets", "this bracket is not closed", "close it with `]` or `}`", True),
    _Rule("unknown escape", "an unknown `\\` escape in double quotes", "use single quotes"),
    _Rule("undefined alias", "this alias has no anchor", "write the value out, or in quotes"),
    _Rule("duplicate anchor", "this anchor is already used", "give it another name"),
    _Rule("undefined tag|scanning a tag", "tags are not supported", "write a plain value", True),
    _Rule("scanning an a", "a bare value cannot begin with `&` or `*`", _QUOTE, True),
    _Rule("tab character", "a tab in the indentation", "YAML indents with spaces only"),
    _Rule("document start", "this does not belong to the recipe above", _ALIGN),
    _Rule("entries are not", "a list item beside its key", "start the list on a line of its own"),
    _Rule("expected '-'", "a key among list items", _ALIGN),
    _Rule("expected key", "neither a key nor part of the value above", _ALIGN),
    _Rule("node content|cannot start", "a bare value cannot begin with this character", _QUOTE),
)


def syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    """Return the one problem that ended the parsing of `text`."""
    start: Any = getattr(error, "context_mark", None)
    stop: Any = getattr(error, "problem_mark", None) or start
    says = " ".join(str(getattr(error, part, None) or "") for part in ("context", "problem"))
    if stop is None:
        return Problem(Where(file), f"is not YAML text: {str(error).splitlines()[0]}")
    if "flow node" in says and stop.index >= len(text.rstrip()):
        says, start = "end of text in brackets", _last_open_bracket(text)
    lines = text.splitlines()
    place = Where(file, stop.line + 1, stop.column + 1)
    return (
        _tab_problem(lines[stop.line : stop.line + 1], place)
        or _line_problem(says, lines, place, start)
        or _ruled_problem(says, place, start)
    )


def _ruled_problem(says: str, place: Where, start: Any) -> Problem:
    for rule in _RULES:
        if re.search(rule.parser_says, says):
            where = _place(place.file, start) if rule.at_start and start else place
            return Problem(where, rule.message, rule.hint)
    return Problem(place, f"not valid YAML: {says.strip()}", "check this line and the one above")


def _last_open_bracket(text: str) -> Any:
    """Return the mark of the innermost bracket that the end of the text leaves open."""
    marks: list[Any] = []
    try:
        for token in yaml.scan(text, Loader=Loader):
            if isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken):
                marks.append(token.start_mark)
            elif isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken):
                del marks[-1:]
    except yaml.YAMLError:
        pass
    return marks[-1] if marks else None


def _line_problem(says: str, lines: list[str], place: Where, start: Any) -> Problem | None:
    if found := _BARE_TEMPLATE.match("".join(lines[place.line - 1 : place.line])):
        where = Where(place.file, place.line, found.start(1) + 1)
        return Problem(where, "a template stands here without quotes", 'write "{{ column }}"')
    if "mapping values" in says:
        return _colon_problem(lines, place)
    if "could not find expected ':'" in says and start:
        if len(lines[start.line]) > LONGEST_KEY:
            return _long_key(_place(place.file, start))
        return _no_colon(lines[start.line], _place(place.file, start))
    if "document start" in says and lines[place.line - 1].startswith("{"):
        return Problem(place, "a second row of JSON", "is this the recipe, or the data?")
    return None


def _place(file: str, mark: Any) -> Where:
    return Where(file, mark.line + 1, mark.column + 1)


def _tab_problem(lines: list[str], where: Where) -> Problem | None:
    for line in lines:
        indentation = line[: len(line) - len(line.lstrip())]
        if "\t" in indentation:
            place = Where(where.file, where.line, indentation.index("\t") + 1)
            return Problem(place, "a tab in the indentation", "YAML indents with spaces only")
    return None


def _colon_problem(lines: list[str], where: Where) -> Problem:
    """Return the problem with a colon that makes no key; its cause is often the line above."""
    line = lines[where.line - 1]
    if where.column > LONGEST_KEY:
        return _long_key(Where(where.file, where.line, 1))
    if ": " in line[: where.column - 1]:
        hint = "put text that holds `: ` in plain quotes"
        return Problem(where, "a second `: ` in one line", hint)
    for number in range(where.line - 2, -1, -1):
        above = lines[number].strip()
        if above and not above.startswith("#"):
            if re.search(r":([ \t]|$)", above):
                break
            column = lines[number].index(above[0]) + 1
            return _no_colon(lines[number], Where(where.file, number + 1, column))
    return Problem(where, "a key that is indented under a value", _ALIGN)


def _long_key(where: Where) -> Problem:
    return Problem(where, f"a key of more than {LONGEST_KEY:,} characters", "keys are names")


def _no_colon(line: str, where: Where) -> Problem:
    word = line.strip()
    if trap := odd_space(word):
        return Problem(where, trap.message, trap.hint)
    if glued := re.match(r"([A-Za-z_]+):(\S+)", word):
        hint = f"write `{glued[1]}: {shown(glued[2])}`, with a space after the colon"
        return Problem(where, "a key needs a space after its colon", hint)
    key = shown(word.split(" ")[0])
    return Problem(where, "a line without a colon", f"write `{key}: VALUE`")
