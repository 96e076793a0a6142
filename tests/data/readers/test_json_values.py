"""The quick way and the one with words agree on every line."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lora_cli.data.readers import json_values
from lora_cli.data.readers.json_values import half_character, holds_nul, row_of, row_of_value

PIECES = st.sampled_from(
    [
        b"{",
        b"}",
        b'"a"',
        b'"b"',
        b":",
        b",",
        b"1",
        b"NaN",
        b"[",
        b"]",
        b" ",
        b"\\ud83d",
        b"\\u0000",
        b"\\",
        b'"',
        b"\xff",
    ]
)


@given(parts=st.lists(PIECES, max_size=9))
@example(parts=[b'{"a": "\\ud83d\\ude00"}'])
@example(parts=[b'{"a": "\\ud83d"}'])
@example(parts=[b'\t{"a": 1}  \r\n'])
@example(parts=[b'\x0c{"a": 1}'])
def test_what_the_quick_way_reads_is_what_the_strict_one_reads(parts: list[bytes]) -> None:
    content = b"".join(parts)
    assert row_of(7, content) == json_values._row_in_words(7, content)


@given(row=st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers()))
def test_a_mapping_is_a_row_as_it_stands(row: dict[str, str | int]) -> None:
    read = row_of(1, json.dumps(row).encode())
    nul = any("\0" in str(value) for value in (*row, *row.values()))
    assert read.columns == row or half_character(row) or nul
    assert row_of_value(2, row).columns == row


@pytest.mark.parametrize("value", [["\ud83d"], {"\udc00": 1}, {"a": {"b": "x\udfff"}}])
def test_half_a_character_is_found_wherever_it_is(value: object) -> None:
    assert half_character(value).startswith("half a character")
    assert half_character(json.loads('["\\ud83d\\ude00"]')) == ""


@given(st.text(st.sampled_from('a\0\\u0"'), max_size=9))
def test_a_nul_is_found_where_it_is_written_and_nowhere_else(text: str) -> None:
    assert (holds_nul(json.dumps([text])) is not None) == ("\0" in text)
