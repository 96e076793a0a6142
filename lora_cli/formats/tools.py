"""Tools that a conversation has, and calls of them: OpenAI's form, as JSON values or as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_cli.formats.json_text import parsed
from lora_cli.formats.row_format import RowProblemError, kind_of


def read_tools(value: Any, column: str) -> tuple[Mapping[str, Any], ...]:
    """Return definitions `{"type": "function", "function": {"name": …, …}}`; bare ones are wrapped.

    Raises:
        RowProblemError: it is neither a list of definitions nor JSON text of one.
    """
    if value is None or value == "":
        return ()
    tools = parsed(value, f"column `{column}`")
    if not isinstance(tools, list):
        message = f"column `{column}` holds {kind_of(tools)}, not a list of tools"
        raise RowProblemError(f"{message}: write [{{…}}], or JSON text of it")
    return tuple(_definition(tool, number) for number, tool in enumerate(tools, 1))


def _definition(tool: Any, number: int) -> Mapping[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    kind = tool.get("type", "function") if isinstance(tool, Mapping) else "function"
    if kind != "function":
        message = f"tool {number} is of type {kind!r}: only functions have a definition"
        raise RowProblemError(f"{message}; remove it")
    if not isinstance(function, Mapping) or not _is_name(function.get("name")):
        message = f"tool {number} has no name"
        raise RowProblemError(f'{message}: write {{"type": "function", "function": {{"name": …}}}}')
    bare = {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
    return dict(tool) if "function" in tool else bare


def read_tool_calls(value: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """Return calls `{"name": …, "arguments": {…}}`, each with its `id` where it has one.

    Raises:
        RowProblemError: a call has no name, or its arguments are no mapping.
    """
    if value is None or value == "":
        return ()
    calls = parsed(value, f"{where}: `tool_calls`")
    calls = [calls] if isinstance(calls, Mapping) else calls
    if not isinstance(calls, list):
        message = f"{where}: `tool_calls` is {kind_of(calls)}"
        raise RowProblemError(f"{message}; write a list of calls")
    return tuple(_call(call, f"{where}, call {number}") for number, call in enumerate(calls, 1))


def _call(call: Any, where: str) -> Mapping[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not _is_name(function.get("name")):
        raise RowProblemError(f'{where} has no name: write {{"name": …, "arguments": {{…}}}}')
    known = {"name", "arguments"} if function is not call else {"name", "arguments", "id", "type"}
    ignored = _unknown(function, known) + _unknown(call, {*known, "id", "type", "function"})
    if ignored:
        fields = ", ".join(f"`{field}`" for field in dict.fromkeys(ignored))
        raise RowProblemError(f"{where} has fields that would be ignored: {fields}; remove them")
    written = function.get("arguments")
    arguments = parsed(written, f"{where}: `arguments`") if written not in (None, "") else {}
    if not isinstance(arguments, Mapping):
        message = f"{where}: `arguments` is {kind_of(arguments)}"
        raise RowProblemError(f'{message}; write {{"argument": value}}')
    made = {"name": function["name"], "arguments": arguments}
    return made if call.get("id") is None else {**made, "id": call["id"]}


def _unknown(mapping: Mapping[str, Any], known: set[str]) -> list[str]:
    return sorted(str(key) for key in mapping if key not in known and mapping[key] is not None)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
