"""The base class of everything a recipe can hold: strict, frozen, no unknown key.

This module does not know any section; components (`adapters`, `optimizers`, …) and the recipe
schema build on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import union_schema, with_info_plain_validator_function

Scalar = str | int | float | bool


class Section(BaseModel):
    """A mapping in the recipe. The docstring under a field is its help and its schema text.

    Those are read when the schema is asked for, and validators are built when first used: both
    take longer than reading a recipe does.
    """

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True
    )

    main_field: ClassVar[str] = ""
    """The field that a bare scalar stands for: `model: NAME` is `model: {name: NAME}`."""
    is_default: ClassVar[bool] = False
    """Whether a mapping that names no member of the family is this one."""

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
        properties = handler.resolve_ref_schema(mapping)["properties"]
        for name, text in cls.field_texts().items():
            properties[name]["description"] = text
        if not cls.main_field:
            return mapping
        main = properties[cls.main_field]
        # a list stands for the section nowhere, though its main field may be one
        forms = [form for form in main.get("anyOf", []) if form.get("type") != "array"]
        return {"anyOf": [{**main, "anyOf": forms} if forms else main, mapping]}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the values of the main field: the names of a member of a family."""
        return get_args(cls.model_fields[cls.main_field].annotation)

    @classmethod
    def field_texts(cls) -> dict[str, str]:
        """Return the docstring under each field as one line, those of the bases included."""
        texts: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            if issubclass(base, Section) and base is not Section:
                texts.update(_docstrings(base))
        return {name: text for name, text in texts.items() if name in cls.model_fields}


def _docstrings(section: type[Section]) -> Iterator[tuple[str, str]]:
    import ast
    import inspect
    import textwrap

    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(definition, ast.ClassDef), "the source of a class is a class"
    for statement, following in itertools.pairwise(definition.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield statement.target.id, " ".join(text.value.split())


class OneOf:
    """Marks a union of sections that are told apart by the names that their main field can have.

    Its validator builds the member that a value names, when it is named: pydantic's own would build
    all of them first, which takes longer than reading the rest of a recipe does.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        members: tuple[type[Section], ...] = get_args(source)

        def read(value: Any, info: ValidationInfo) -> Section:
            if isinstance(value, members):
                return value
            # JSON has lists where we have tuples
            strict = None if info.mode == "python" else False
            return _member(value, members).model_validate(value, strict=strict)

        return with_info_plain_validator_function(read, metadata={"members": members})

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        members: tuple[type[Section], ...] = schema["metadata"]["members"]
        for member in members:
            member.model_rebuild()
        return handler(union_schema([member.__pydantic_core_schema__ for member in members]))


def _member(value: Any, members: Sequence[type[Section]]) -> type[Section]:
    """Return the member that a bare name or a mapping asks for.

    Raises:
        ValueError: it asks for none of them.
    """
    for member in members:
        named = value.get(member.main_field) if isinstance(value, dict) else value
        if named in member.names() or (named is None and member.is_default):
            return member
    raise ValueError(f"it is none of {', '.join(n for each in members for n in each.names())}")
