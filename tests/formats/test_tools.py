"""Tool definitions and calls: as JSON values, as text of them, with and without their wrapping."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.formats import RowProblemError
from lora_cli.formats.tools import read_tool_calls, read_tools

FUNCTION = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    "written", [TOOL, FUNCTION, {"type": "function", **FUNCTION}], ids=["whole", "bare", "flat"]
)
def test_a_definition_is_openais_form(written: dict[str, Any]) -> None:
    assert read_tools([written], "tools") == (TOOL,)
    assert read_tools(json.dumps([written]), "tools") == (TOOL,)


@given(arguments=st.dictionaries(st.text(max_size=5), JSON, max_size=3), as_text=st.booleans())
def test_arguments_survive_as_a_mapping_and_as_text(
    arguments: dict[str, Any], as_text: bool
) -> None:
    written = json.dumps(arguments) if as_text else arguments
    calls = [{"function": {"name": "f", "arguments": written}}]
    assert read_tool_calls(calls, "turn 1") == ({"name": "f", "arguments": arguments},)


@pytest.mark.parametrize("arguments", [None, "", {}, "{}"])
def test_a_call_without_arguments(arguments: Any) -> None:
    assert read_tool_calls([{"name": "now", "arguments": arguments}], "turn 1") == (
        {"name": "now", "arguments": {}},
    )


def test_one_call_needs_no_list_and_keeps_its_id() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "now"}}
    assert read_tool_calls(call, "t") == ({"name": "now", "arguments": {}, "id": "c1"},)


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ({"name": "f"}, ("column `tools` holds a mapping, not a list of tools: write [{…}], or "
                        "JSON text of it")),
        (["f"], 'tool 1 has no name: write {"type": "function", "function": {"name": …}}'),
        ([TOOL, {"function": {"name": ""}}],
         'tool 2 has no name: write {"type": "function", "function": {"name": …}}'),
        ([{"type": "retrieval"}],
         "tool 1 is of type 'retrieval': only functions have a definition; remove it"),
        ("[{]", ("column `tools`: text that is not JSON: Expecting property name enclosed in "
                "double quotes (line 1, column 3)")),
        ('[{"name": "f", "name": "g"}]',
         "column `tools`: text that is not JSON: a key is written twice in one mapping"),
    ],
)  # fmt: skip
def test_tools_that_cannot_be_used(tools: Any, message: str) -> None:
    with pytest.raises(RowProblemError) as caught:
        read_tools(tools, "tools")
    assert str(caught.value) == message


NAMELESS = ' has no name: write {"name": …, "arguments": {…}}'


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        (3, "turn 5: `tool_calls` is a number; write a list of calls"),
        (["f"], f"turn 5, call 1{NAMELESS}"),
        ([{"name": "f"}, {"arguments": {}}], f"turn 5, call 2{NAMELESS}"),
        ([{"name": "f", "arguments": "x"}],
         "turn 5, call 1: `arguments`: text that is not JSON: Expecting value (line 1, column 1)"),
        ([{"name": "f", "arguments": '{"a": NaN}'}],
         "turn 5, call 1: `arguments`: text that is not JSON: `NaN` is no number of JSON"),
        ([{"name": "f", "arguments": "[1]"}],
         'turn 5, call 1: `arguments` is a list; write {"argument": value}'),
        ([{"name": "f", "index": 0, "function": None}], f"turn 5, call 1{NAMELESS}"),
        ([{"name": "f", "index": 0}],
         "turn 5, call 1 has fields that would be ignored: `index`; remove them"),
        ([{"index": 0, "function": {"name": "f", "strict": True}}],
         "turn 5, call 1 has fields that would be ignored: `strict`, `index`; remove them"),
    ],
)  # fmt: skip
def test_calls_that_cannot_be_used(calls: Any, message: str) -> None:
    with pytest.raises(RowProblemError) as caught:
        read_tool_calls(calls, "turn 5")
    assert str(caught.value) == message


def test_json_too_deep_to_be_read_is_a_problem_of_the_row() -> None:
    with pytest.raises(RowProblemError, match="text that is not JSON"):
        read_tools("[" * 100_000, "tools")
