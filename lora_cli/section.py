"""The base class of everything a recipe can hold: strict, frozen, no unknown key.

This module does not know any section; components (`adapters`, `optimizers`, …) and the recipe
schema build on it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Scalar = str | int | float | bool


class Section(BaseModel):
    """A mapping in the recipe. The docstring under a field is its help and its schema text."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    main_field: ClassVar[str] = ""
    """The field that a bare scalar stands for: `model: NAME` is `model: {name: NAME}`."""

    @model_validator(mode="before")
    @classmethod
    def _expand_scalar(cls, value: Any) -> Any:
        if cls.main_field and isinstance(value, Scalar):
            return {cls.main_field: value}
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        mapping = handler(core_schema)
        if not cls.main_field:
            return mapping
        shorthand = handler.resolve_ref_schema(mapping)["properties"][cls.main_field]
        return {"anyOf": [shorthand, mapping]}


def choice(value: Any, field: str) -> str | None:
    """Return which member of a family `value` asks for: a bare name, or a mapping's `field`."""
    chosen = value.get(field) if isinstance(value, dict) else getattr(value, field, value)
    return chosen if isinstance(chosen, str) else None
