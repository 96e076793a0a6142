"""The recipe's JSON Schema, for editors."""

from __future__ import annotations

import json
from typing import Any

from lora_cli.recipe.schema import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_json_schema() -> str:
    """Return the schema as indented JSON text, the same text at every call."""
    schema = {"$schema": DIALECT, **_without_nulls(Recipe.model_json_schema())}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _without_nulls(node: Any) -> Any:
    """Drop `null` from what is allowed: in a recipe, a key without a value is an error."""
    if isinstance(node, list):
        return [_without_nulls(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: _without_nulls(value)
        for key, value in node.items()
        if not (key == "default" and value is None)
    }
    options = kept.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        options = [option for option in options if option != {"type": "null"}]
        kept.pop("anyOf")
        kept = {**options[0], **kept} if len(options) == 1 else {**kept, "anyOf": options}
    return kept
