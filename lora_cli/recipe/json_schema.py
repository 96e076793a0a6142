"""The recipe's JSON Schema, for editors: what the reader takes, said so that completion works."""

from __future__ import annotations

import json
from typing import Any

from lora_cli.recipe.fields import all_sections, members, sections_under
from lora_cli.recipe.schema import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLE = "loracli recipe"


def recipe_json_schema() -> str:
    """Return the schema as indented JSON text, the same text at every call."""
    generated = Recipe.model_json_schema()
    _require_main_fields(generated["$defs"])
    schema = {"$schema": DIALECT, "title": TITLE, **_tidied(generated)}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _require_main_fields(definitions: dict[str, Any]) -> None:
    """Require the field that tells a family's members apart: an editor then knows which it is.

    A member that need not be named is the one exception.
    """
    for section in all_sections():
        for name in section.model_fields:
            for member in members(sections_under((section,), name)).values():
                if member.is_default:
                    continue
                mapping = definitions[member.__name__]["anyOf"][-1]
                required = mapping.get("required", [])
                mapping["required"] = list(dict.fromkeys([member.main_field, *required]))


def _tidied(node: Any) -> Any:
    """Return the schema without what is of no use in an editor.

    No `null`: in a recipe, a key without a value is an error. No generated titles, which would
    stand before the descriptions. `anyOf` for `oneOf`: a half-written mapping fits several members.
    """
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: {name: _tidied(inner) for name, inner in value.items()}
        if key in ("properties", "$defs")
        else _tidied(value)
        for key, value in node.items()
        if key != "title" and (key, value) != ("default", None)
    }
    options = kept.pop("oneOf", None) or kept.pop("anyOf", None)
    if options is None:
        return kept
    options = [option for option in options if option != {"type": "null"}]
    return {**options[0], **kept} if len(options) == 1 else {**kept, "anyOf": options}
