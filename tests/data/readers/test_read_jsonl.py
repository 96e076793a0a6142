"""Lines that are rows, and lines that are none: each with its reason, none an exception."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.readers import open_file
from lora_cli.data.readers import read_jsonl as module
from lora_cli.data.readers.open_file import NUL
from lora_cli.data.readers.raw_row import RawRow
from lora_cli.data.readers.read_jsonl import read_jsonl

Read = Callable[[bytes], list[RawRow]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def rows(content: bytes) -> list[RawRow]:
        path = tmp_path / "rows.jsonl"
        path.write_bytes(content)
        return list(read_jsonl(path))

    return rows


def test_rows_keep_their_line_numbers_over_blank_lines(read: Read) -> None:
    rows = read(b'\n{"a": 1}\n\n  \t\r\n{"a": 2}')
    assert rows == [RawRow(2, {"a": 1}), RawRow(5, {"a": 2})]


def test_an_empty_file_has_no_rows(read: Read) -> None:
    assert read(b"") == read(b"\n\n") == []


def test_a_byte_order_mark_is_not_part_of_the_first_row(read: Read) -> None:
    assert read(b'\xef\xbb\xbf{"a": "\xc3\xa9"}\r\n') == [RawRow(1, {"a": "é"})]


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        (b'{"a": 1', 8, "not JSON: Expecting ',' delimiter"),
        (b'{"a": 1}}', 9, "not JSON: Extra data"),
        (b"{'a': 1}", 2, "not JSON: Expecting property name enclosed in double quotes"),
        (b"plain text", 1, "not JSON: Expecting value"),
        (b'{"a": "\x00"}', 8, NUL),
        (b'{"a": 1}\x00', 9, NUL),
        (b'{"a": "\x01"}', 8, "not JSON: the control character '\\x01', which is written"),
        (b'{"a": "b', 7, "not JSON: a string that is not closed"),
        (b"\x00", 1, NUL),
        (b'{"a": NaN}', 0, "not JSON: `NaN` is no number of JSON"),
        (b'{"a": -Infinity}', 0, "not JSON: `-Infinity` is no number of JSON"),
        (b'{"a": 1, "a": 2}', 0, "not JSON: `a` is written twice in one mapping"),
        (b'{"a": [{"b": 1, "b": 1}]}', 0, "not JSON: `b` is written twice in one mapping"),
        (b'{"a": "\xff"}', 0, "not UTF-8 at byte 8 of the line"),
        (b'{"a": "\\ud83d"}', 0, "not JSON: half a character"),
        (b'{"\\udc00": 1}', 0, "not JSON: half a character"),
        (b"[1, 2]", 0, "a row is a mapping of columns, not a list"),
        (b'"text"', 0, "a row is a mapping of columns, not text"),
        (b"3.5", 0, "a row is a mapping of columns, not a number"),
        (b"true", 0, "a row is a mapping of columns, not true or false"),
        (b"null", 0, "a row is a mapping of columns, not null"),
        (b'{"a":' + b"[" * 100_000, 0, "not JSON that can be read: it is nested too deeply"),
        (b'{"a": -' + b"9" * 6000 + b"}", 0, "not JSON: a number of 6,000 digits is too long"),
    ],
)
def test_a_line_that_is_no_row_says_why(read: Read, line: bytes, column: int, reason: str) -> None:
    first, bad, last = read(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')[:1] + read(line + b"\n{}")
    assert first == RawRow(1, {"a": 1})
    assert (bad.line, bad.columns, bad.column) == (1, None, column)
    assert bad.reason.startswith(reason)
    assert last == RawRow(2, {}), "the row after a bad one is read"


def test_escaped_pairs_are_whole_characters(read: Read) -> None:
    assert read(b'{"a": "\\ud83d\\ude00"}') == [RawRow(1, {"a": "😀"})]


NO_NUL = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
"""Characters that a row may hold."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(NO_NUL, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(NO_NUL, max_size=3), inner),
    max_leaves=6,
)


@settings(max_examples=50)
@given(rows=st.lists(st.dictionaries(st.text(NO_NUL, max_size=4), JSON, max_size=3), max_size=5))
def test_what_json_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("read") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert [row.columns for row in read_jsonl(path)] == rows


@given(content=st.binary(max_size=60))
def test_no_bytes_make_it_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("read") / "rows.jsonl"
    path.write_bytes(b"{}\n" + content)  # no beginning of another kind of file or of UTF-16
    for row in read_jsonl(path):
        assert (row.columns is None) == bool(row.reason)


def test_a_row_of_five_megabytes(read: Read) -> None:
    row = {"a": "é" * 2_500_000}
    assert read(json.dumps(row).encode() + b"\n{}") == [RawRow(1, row), RawRow(2, {})]
    assert read(json.dumps(row, ensure_ascii=False).encode()) == [RawRow(1, row)]


def test_a_line_that_no_memory_should_hold(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_file, "LONGEST_ROW", 1 << 20)
    monkeypatch.setattr(module, "LONGEST_ROW", 1 << 20)
    long = b'{"a": "' + b"x" * (3 << 20) + b'"}'
    first, second, third = read(b"{}\n" + long + b"\n{}\n")
    assert (first.columns, second.columns, third) == ({}, None, RawRow(3, {}))
    assert (second.line, second.reason) == (2, "a row of over 1 MB")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes((json.dumps({"a": "x" * 1000}).encode() + b"\n") * 10_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_jsonl(path)) == 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20, "a buffer of 256 KiB and a few rows; the file has 10 MB"
