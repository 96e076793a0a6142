"""Writes the table of fields in docs/recipe.md: `python -m tests.helpers.recipe_docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lora_cli.recipe.fields import sections_of
from lora_cli.recipe.schema import Recipe
from lora_cli.section import Section

DOCS = Path(__file__).parent.parent.parent / "docs" / "recipe.md"
BEGIN, END = "<!-- fields -->\n", "<!-- /fields -->"


def fields_table() -> str:
    """Return the Markdown of all sections: a heading and a table each."""
    top = _table("", Recipe)
    parts = [f"### Top level\n\n{top}"]
    for name, info in Recipe.model_fields.items():
        parts += _sections(name, info)
    return "\n".join(parts)


def _sections(key: str, info: FieldInfo) -> list[str]:
    parts = []
    for section in sections_of(info.annotation):
        summary = (section.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
        choice = _choice(section)
        title = f"`{key}`" + (f", {choice}" if choice else "")
        parts.append(f"### {title}\n\n{summary}\n\n{_table(key + '.', section)}")
        for name, inner in section.model_fields.items():
            parts += _sections(f"{key}.{name}", inner)
    return parts


def _choice(section: type[Section]) -> str:
    if not section.main_field:
        return ""
    annotation = section.model_fields[section.main_field].annotation
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return " · ".join(f"`{value}`" for value in values)


def _table(prefix: str, section: type[Section]) -> str:
    texts = section.field_texts()
    rows = [
        f"| `{prefix}{name}` | {_default(info)} | {_description(texts[name], info)} |"
        for name, info in section.model_fields.items()
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
    if value is None:
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def with_current_table(text: str) -> str:
    """Return the page with the table made anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{fields_table()}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    DOCS.write_text(with_current_table(DOCS.read_text("utf-8")), "utf-8")
