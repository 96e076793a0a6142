"""A JSON Schema checker for as much of the language as our schema uses; no package does it here."""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_ANNOTATIONS = {"title", "description", "default", "$schema", "$defs"}


class SchemaChecker:
    """Answers whether a value fits; an unknown keyword is an error, so that none goes unchecked."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._definitions = schema.get("$defs", {})
        self._schema = schema

    def accepts(self, value: Any) -> bool:
        """Return whether the schema allows the value."""
        return self._fits(value, self._schema)

    def _fits(self, value: Any, schema: dict[str, Any]) -> bool:
        return all(
            self._holds(keyword, argument, value, schema)
            for keyword, argument in schema.items()
            if keyword not in _ANNOTATIONS
        )

    def _holds(self, keyword: str, argument: Any, value: Any, schema: dict[str, Any]) -> bool:
        return bool(getattr(self, f"_{keyword.lstrip('$')}")(value, argument, schema))

    def _ref(self, value: Any, argument: str, _schema: Any) -> bool:
        return self._fits(value, self._definitions[argument.removeprefix("#/$defs/")])

    def _anyOf(self, value: Any, argument: list[Any], _schema: Any) -> bool:  # noqa: N802
        return any(self._fits(value, option) for option in argument)

    def _type(self, value: Any, argument: str, _schema: Any) -> bool:
        is_odd_boolean = isinstance(value, bool) and argument != "boolean"
        return isinstance(value, _TYPES[argument]) and not is_odd_boolean

    def _const(self, value: Any, argument: Any, _schema: Any) -> bool:
        return bool(value == argument)

    def _enum(self, value: Any, argument: list[Any], _schema: Any) -> bool:
        return value in argument

    def _properties(self, value: Any, argument: dict[str, Any], _schema: Any) -> bool:
        return not isinstance(value, dict) or all(
            self._fits(inner, argument[name]) for name, inner in value.items() if name in argument
        )

    def _required(self, value: Any, argument: list[str], _schema: Any) -> bool:
        return not isinstance(value, dict) or set(argument) <= value.keys()

    def _additionalProperties(  # noqa: N802
        self, value: Any, argument: bool | dict[str, Any], schema: dict[str, Any]
    ) -> bool:
        if not isinstance(value, dict):
            return True
        others = value.keys() - schema.get("properties", {}).keys()
        if isinstance(argument, dict):
            return all(self._fits(value[key], argument) for key in others)
        assert argument is False, "an open mapping of anything"
        return not others

    def _items(self, value: Any, argument: dict[str, Any], _schema: Any) -> bool:
        return not isinstance(value, list) or all(self._fits(item, argument) for item in value)

    def _minItems(self, value: Any, argument: int, _schema: Any) -> bool:  # noqa: N802
        return not isinstance(value, list) or len(value) >= argument

    def _minLength(self, value: Any, argument: int, _schema: Any) -> bool:  # noqa: N802
        return not isinstance(value, str) or len(value) >= argument

    def _minimum(self, value: Any, argument: float, _schema: Any) -> bool:
        return not isinstance(value, int | float) or value >= argument

    def _exclusiveMinimum(self, value: Any, argument: float, _schema: Any) -> bool:  # noqa: N802
        return not isinstance(value, int | float) or value > argument

    def _exclusiveMaximum(self, value: Any, argument: float, _schema: Any) -> bool:  # noqa: N802
        return not isinstance(value, int | float) or value < argument
