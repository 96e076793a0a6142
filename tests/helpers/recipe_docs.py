"""Writes the table of fields in docs/recipe.md: `python -m tests.helpers.recipe_docs`."""

from __future__ import annotations

from inspect import get_annotations
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lora_cli.adapters.variant import VariantSpec
from lora_cli.recipe.fields import sections_of
from lora_cli.recipe.schema import Recipe
from lora_cli.section import Section

DOCS = Path(__file__).parent.parent.parent / "docs" / "recipe.md"
BEGIN, END = "<!-- fields -->\n", "<!-- /fields -->"


def fields_table() -> str:
    """Return the Markdown of all sections: a heading and a table of its own fields each.

    Fields that several variants share stand in a table of their own, before the first of them.
    """
    shown: set[type[Section]] = {Recipe}
    parts = [f"### Top level\n\n{_table('', Recipe, list(Recipe.model_fields))}"]
    for name, info in Recipe.model_fields.items():
        parts += _sections(name, info, shown)
    return "\n".join(parts)


def _sections(key: str, info: FieldInfo, shown: set[type[Section]]) -> list[str]:
    parts = []
    for section in sections_of(info.annotation):
        lineage = [each for each in reversed(section.__mro__) if _own_fields(each)]
        for part in lineage:
            if part not in shown:
                shown.add(part)
                parts.append(_part(key, part, lineage[: lineage.index(part)]))
                for name in _own_fields(part):
                    parts += _sections(f"{key}.{name}", part.model_fields[name], shown)
    return parts


def _part(key: str, section: type[Section], above: list[type[Section]]) -> str:
    """Return a section's heading and table; `above` are the sections whose fields it has too."""
    shared = _shared_by(section)
    which = _choice(section) or (f"shared by {shared}" if shared else "")
    also = ", ".join(filter(None, map(_shared_by, above)))
    text = "" if shared else f"{_summary(section)}\n\n"
    text += f"And the fields shared by {also}.\n\n" if also and not shared else ""
    table = _table(f"{key}.", section, _own_fields(section))
    return f"### `{key}`{f', {which}' if which else ''}\n\n{text}{table}"


def _shared_by(section: type[Section]) -> str:
    """Return who shares these fields, of a section that is a base of others."""
    _, shared, who = _summary(section).partition("Fields shared by ")
    return who.rstrip(".") if shared else ""


def _own_fields(section: type) -> list[str]:
    """Return the fields that a section does not get from its bases."""
    if not issubclass(section, Section) or section is VariantSpec:
        return []
    return [name for name in section.model_fields if name in get_annotations(section)]


def _summary(section: type[Section]) -> str:
    return (section.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def _choice(section: type[Section]) -> str:
    if not section.main_field:
        return ""
    annotation = section.model_fields[section.main_field].annotation
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return " · ".join(f"`{value}`" for value in values)


def _table(prefix: str, section: type[Section], names: list[str]) -> str:
    texts = section.field_texts()
    infos = {name: section.model_fields[name] for name in names}
    rows = [
        f"| `{prefix}{name}` | {_default(info)} | {_description(texts[name], info)} |"
        for name, info in infos.items()
    ]
    return "\n".join(["| field | default | |", "|---|---|---|", *rows]) + "\n"


def _description(text: str, info: FieldInfo) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    values = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    if len(values) > 1:
        return f"{text} One of {', '.join(f'`{value}`' for value in values)}."
    return text


def _default(info: FieldInfo) -> str:
    value: Any = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "needed"
    if isinstance(value, Section):
        main = getattr(value, value.main_field) if value.main_field else None
        return f"`{main}`" if main is not None else ""
    if value is None or value in ((), {}):
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def with_current_table(text: str) -> str:
    """Return the page with the table made anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{fields_table()}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    DOCS.write_text(with_current_table(DOCS.read_text("utf-8")), "utf-8")
