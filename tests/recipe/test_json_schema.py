"""The published schema: current, complete, and of one mind with the reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from lora_cli.recipe.fields import all_sections
from lora_cli.recipe.json_schema import recipe_json_schema
from lora_cli.recipe.schema import Recipe
from tests.recipe.schema_checker import SchemaChecker
from tests.recipe.strategies import RECIPES

SCHEMA = json.loads(recipe_json_schema())
CHECKER = SchemaChecker(SCHEMA)
BASE: dict[str, Any] = {"model": "m", "adapter": "lora", "dataset": "rows.jsonl"}


def nodes(schema: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every schema within a schema, with its place."""
    if isinstance(schema, list):
        for number, item in enumerate(schema):
            yield from nodes(item, f"{place}/{number}")
    if isinstance(schema, dict):
        yield place, schema
        for key, inner in schema.items():
            if key in ("properties", "$defs"):
                for name, each in inner.items():
                    yield from nodes(each, f"{place}/{name}")
            else:
                yield from nodes(inner, f"{place}/{key}")


def mappings() -> list[tuple[str, dict[str, Any]]]:
    """Return every mapping of known keys."""
    return [(place, node) for place, node in nodes(SCHEMA) if "properties" in node]


def test_the_file_is_current(repository: Path) -> None:
    text = (repository / "recipes" / "recipe.schema.json").read_text("utf-8")
    assert text == recipe_json_schema(), "run: loracli schema > recipes/recipe.schema.json"


def test_it_is_the_same_at_every_call() -> None:
    assert recipe_json_schema() == recipe_json_schema()
    assert recipe_json_schema().endswith("}\n")


def test_it_says_what_it_is() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["type"] == "object"
    assert SCHEMA["title"]


def test_every_section_is_in_it() -> None:
    assert len(mappings()) == len(all_sections())


def test_unknown_keys_are_refused_everywhere() -> None:
    assert [place for place, node in mappings() if node["additionalProperties"] is not False] == []


def test_every_field_has_a_description() -> None:
    silent = [
        f"{place}.{name}"
        for place, node in mappings()
        for name, field in node["properties"].items()
        if len(field.get("description", "")) < 8
    ]
    assert silent == []


def test_descriptions_are_the_docstrings_of_the_fields() -> None:
    texts = {text for section in all_sections() for text in section.field_texts().values()}
    shown = {node["description"] for _, node in nodes(SCHEMA) if "description" in node}
    assert texts <= shown


def test_every_reference_leads_somewhere() -> None:
    references = {node["$ref"] for _, node in nodes(SCHEMA) if "$ref" in node}
    assert references
    assert references <= {f"#/$defs/{name}" for name in SCHEMA["$defs"]}


def test_nothing_is_left_that_an_editor_cannot_use() -> None:
    for _, node in nodes(SCHEMA):
        assert node.get("type") != "null"
        assert "oneOf" not in node
        assert "discriminator" not in node


@pytest.mark.parametrize("family", ["adapter", "quantization"])
def test_a_member_of_a_family_is_known_by_one_required_word(family: str) -> None:
    words: list[str] = []
    for option in SCHEMA["properties"][family]["anyOf"]:
        shorthand, mapping = SCHEMA["$defs"][option["$ref"].rpartition("/")[2]]["anyOf"]
        (main,) = mapping["required"]
        field = mapping["properties"][main]
        assert field.get("enum", [field.get("const")]) == shorthand.get(
            "enum", [shorthand.get("const")]
        )
        words += field.get("enum", [field.get("const")])
    assert len(words) == len(set(words)) >= 2
    assert None not in words


@given(values=RECIPES)
@settings(max_examples=150, deadline=None)
def test_what_the_reader_takes_the_schema_takes(values: dict[str, Any]) -> None:
    Recipe.model_validate(values)
    assert CHECKER.accepts(values)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {"name": "m", "dtype": "bfloat16"}},
        {"adapter": {"variant": "rslora", "target_modules": ["q_proj"]}},
        {"adapter": {"variant": "lora", "target_modules": {"regex": "x"}}},
        {"quantization": "nf4"},
        {"quantization": {"method": "fp4", "double_quantization": False}},
        {"dataset": ["a", {"path": "b", "max_rows": 3}]},
        {"evaluation": 0.1},
        {"evaluation": {"path": "x", "answers": "json_fields"}},
        {"training": {"optimizer": "adamw", "epochs": 1}},
        {"training": {"optimizer": {"beta1": 0.5, "lora_plus_ratio": 16}}},
        {"training": {"optimizer": {"name": "paged_adamw_8bit", "lora_plus_ratio": 16}}},
        {"adapter": "qlora"},
        {"quantization": {"method": "int8", "full_precision_modules": ["o_proj"]}},
        {"output": "runs/one"},
    ],
    ids=str,
)
def test_accepted(changes: dict[str, Any]) -> None:
    assert CHECKER.accepts(BASE | changes)
    Recipe.model_validate(BASE | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"modle": "m"},
        {"model": None},
        {"model": ""},
        {"model": {}},
        {"model": {"name": "m", "dtyp": "auto"}},
        {"model": {"name": "m", "dtype": "bf16"}},
        {"model": {"name": "m", "revision": None}},
        {"adapter": "hra"},
        {"adapter": {"rank": 8}},
        {"adapter": {"variant": "lora", "rank": 0}},
        {"adapter": {"variant": "lora", "rank": True}},
        {"adapter": {"variant": "lora", "dropout": 1}},
        {"adapter": {"variant": "lora", "target_modules": []}},
        {"adapter": {"variant": "lora", "target_modules": "q_proj"}},
        {"adapter": {"variant": "lora", "target_modules": {"regx": "x"}}},
        {"quantization": {}},
        {"quantization": {"double_quantization": True}},
        {"quantization": {"method": "int8", "double_quantization": True}},
        {"quantization": 4},
        {"dataset": []},
        {"dataset": [["a"]]},
        {"dataset": {"path": "a", "max_rows": 1.5}},
        {"training": []},
        {"training": {"learning_rate": "1e-4"}},
        {"training": {"learning_rate": 0}},
        {"training": {"optimizer": "sgd"}},
        {"training": {"optimizer": {"name": "lora_fa", "lora_plus_ratio": 16}}},
        {"quantization": {"method": "none", "full_precision_modules": ["o_proj"]}},
        {"evaluation": 1},
        {"evaluation": "rows.jsonl"},
        {"evaluation": {"split": 0.1, "answers": {}}},
        {"seed": -1},
        {"seed": 2**32},
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any]) -> None:
    assert not CHECKER.accepts(BASE | changes)


@pytest.mark.parametrize("key", ["model", "adapter", "dataset"])
def test_required(key: str) -> None:
    assert not CHECKER.accepts({name: value for name, value in BASE.items() if name != key})
