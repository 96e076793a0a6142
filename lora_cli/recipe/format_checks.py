"""Checks of how a recipe lays out its rows: names of columns, and the parts of a template.

Like the other checks they read plain values; what only the rows can show is checked with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lora_cli.errors import Problem
from lora_cli.formats import FORMATS
from lora_cli.formats.template import KINDS, LEARNT, columns_read, template_problems
from lora_cli.recipe.source import KeyPath, Source
from lora_cli.recipe.suggest import closest
from lora_cli.recipe.wording import shown

FORMS = "write `prompt` and `completion`, or `user` and `assistant` (and `system`), or `text`"


def check_formats(values: Mapping[str, Any], source: Source) -> Iterator[Problem]:
    """Give the problems of each data set's columns and template."""
    datasets = values.get("dataset")
    listed = isinstance(datasets, list)
    for index, dataset in enumerate(datasets if isinstance(datasets, list) else [datasets]):
        if isinstance(dataset, dict):
            path: KeyPath = ("dataset", index) if listed else ("dataset",)
            yield from _template_and_format(dataset, path, source)
            parts = _template_parts(dataset)
            if parts == dataset.get("template"):  # else other parts are problems already
                yield from _parts(parts, path, source)
            yield from _texts(parts, path, source)
            yield from _columns(dataset, parts, path, source)


def _template_parts(dataset: Mapping[str, Any]) -> dict[str, str]:
    """Return a template's parts that are text and known; all else is a problem already."""
    template = dataset.get("template")
    parts = {"text": template} if isinstance(template, str) else template
    known = {name for each in KINDS for name in each}
    if not isinstance(parts, dict):
        return {}
    return {name: text for name, text in parts.items() if name in known and isinstance(text, str)}


def _template_and_format(
    dataset: Mapping[str, Any], path: KeyPath, source: Source
) -> Iterator[Problem]:
    written, named = "template" in dataset, dataset.get("format", "auto")
    if named == "template" and not written:
        where = source.of_value((*path, "format"))
        message = "the format is a template, but there is none"
        yield Problem(where, message, f"add `template: {{prompt: …, completion: …}}`; {FORMS}")
    if written and named in FORMATS:
        where = source.of_key((*path, "template"))
        message = f"`{where.key}` is given, but the format is {named}"
        yield Problem(where, message, "remove the one that is not meant")


def _parts(parts: Mapping[str, str], path: KeyPath, source: Source) -> Iterator[Problem]:
    if frozenset(parts) not in KINDS:
        where = source.of_value((*path, "template"))
        names = " and ".join(f"`{name}`" for name in parts) or "nothing"
        yield Problem(where, f"`{where.key}` holds {names}: that makes no row", FORMS)


def _texts(parts: Mapping[str, str], path: KeyPath, source: Source) -> Iterator[Problem]:
    broken = False
    for part, text in parts.items():
        where = source.of_value((*path, "template", part))
        for message, hint in template_problems(text):
            broken = True
            yield Problem(where, f"`{where.key}` {message}", hint)
    for part in LEARNT:
        if not broken and part in parts and not columns_read(parts[part]):
            where = source.of_value((*path, "template", part))
            message = f"`{where.key}` reads no column: every row would teach the same"
            yield Problem(where, message, "write columns as {{ column }}, in two pairs of braces")


def _columns(
    dataset: Mapping[str, Any], parts: Mapping[str, str], path: KeyPath, source: Source
) -> Iterator[Problem]:
    """Find names in `columns` that no format has, or not the one that is named."""
    columns, named = dataset.get("columns"), dataset.get("format", "auto")
    known = _known_columns(named, parts)
    for name in columns if isinstance(columns, dict) and known else ():
        if isinstance(name, str) and name not in known:
            where = source.of_key((*path, "columns", name))
            reader = "the template reads" if parts else "any format has"
            reader = f"the format {named} has" if named in FORMATS else reader
            message = f"`{shown(name)}` is no column that {reader}"
            yield Problem(where, message, _meant(name, known))


def _meant(name: str, known: list[str]) -> str:
    """Return the column that is meant: one that files call so, or one that looks like it."""
    columns = [column for each in FORMATS.values() for column in each.columns]
    called_so = [column.name for column in columns if name in column.aliases]
    near = [*dict.fromkeys(column for column in called_so if column in known)]
    if not near and (alike := closest(name, known)):
        near = [alike]
    if near:
        return f"did you mean {' or '.join(f'`{each}`' for each in near)}?"
    return f"the file's own name comes second; the first is one of: {', '.join(known)}"


def _known_columns(named: Any, parts: Mapping[str, str]) -> list[str]:
    """Return the columns that can be renamed; none where that is not known."""
    if parts:
        if any(True for text in parts.values() for _ in template_problems(text)):
            return []
        return list(dict.fromkeys(name for text in parts.values() for name in columns_read(text)))
    formats = [FORMATS[named]] if named in FORMATS else FORMATS.values() if named == "auto" else []
    return list(dict.fromkeys(column.name for each in formats for column in each.columns))
