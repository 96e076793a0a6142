"""JSON documents: read a piece at a time, whatever the pieces are."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.readers import json_document
from lora_cli.data.readers.json_document import JsonDocument
from lora_cli.data.readers.raw_row import RawRow
from lora_cli.data.readers.read_json import read_json
from lora_cli.errors import PlanError

NO_NUL = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
"""Characters that a row may hold."""
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | st.text(NO_NUL, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(NO_NUL, max_size=3), inner),
    max_leaves=5,
)
ROWS = st.lists(st.dictionaries(st.text(NO_NUL, max_size=4), VALUE, max_size=3), max_size=5)


def read(folder: Path, content: str) -> list[RawRow]:
    path = folder / "rows.json"
    path.write_text(content, "utf-8", "surrogatepass")
    return list(read_json(path))


@settings(max_examples=60)
@given(
    rows=ROWS, indent=st.sampled_from([None, 0, 3]), piece=st.integers(1, 40), plain=st.booleans()
)
def test_a_list_is_read_whatever_is_in_memory(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    indent: int | None,
    piece: int,
    plain: bool,
) -> None:
    content = json.dumps(rows, indent=indent, ensure_ascii=plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_document, "PIECE", piece)
        read_rows = read(tmp_path_factory.mktemp("json"), content)
    assert read_rows == [RawRow(number, row) for number, row in enumerate(rows, 1)]


def test_columns_of_lists_are_rows(tmp_path: Path) -> None:
    rows = read(tmp_path, '{"text": ["a", "b"],\n "label": [0, null]}')
    assert rows == [RawRow(1, {"text": "a", "label": 0}), RawRow(2, {"text": "b", "label": None})]
    assert read(tmp_path, '{"text": []}') == []


@pytest.mark.parametrize("row", [{}, {"text": "a"}, {"text": "a", "tags": ["x"]}])
def test_any_other_mapping_is_one_row(tmp_path: Path, row: dict[str, Any]) -> None:
    assert read(tmp_path, json.dumps(row, indent=1)) == [RawRow(1, row)]


@pytest.mark.parametrize("piece", [3, 1 << 20])
def test_jsonl_that_is_called_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(json_document, "PIECE", piece)
    assert read(tmp_path, '\n{"a": 1}\n\n{"a": 2}') == [RawRow(2, {"a": 1}), RawRow(4, {"a": 2})]
    first, second = read(tmp_path, '{"a": 1, "a": 1}\n{"a": 2}\n')
    assert (first.line, first.columns, second.columns) == (1, None, {"a": 2})
    first, second = read(tmp_path, '{"a": 1\n{"a": 2}\n')
    assert (first.line, first.columns, second.columns) == (1, None, {"a": 2})


@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
def test_an_error_stands_where_an_editor_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(json_document, "PIECE", piece)
    with pytest.raises(PlanError) as caught:
        read(tmp_path, '[\n {"a": "é\\n"},\n {"a": "ü",\n  "b": x}\n]')
    where = caught.value.problems[0].where
    assert (where.line, where.column) == (4, 8)


def test_a_value_that_no_memory_should_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_document, "LONGEST_ROW", 1 << 20)
    with pytest.raises(PlanError, match=r"rows\.json:2:1: not JSON: one value of over 1 MB"):
        read(tmp_path, '[{"a": 1},\n{"a": "' + "x" * (3 << 20) + '"}]')


def test_a_row_of_five_megabytes(tmp_path: Path) -> None:
    rows = [{"a": "é" * 5_000_000}, {"a": "b"}]
    assert [row.columns for row in read(tmp_path, json.dumps(rows, ensure_ascii=False))] == rows


def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_document, "PIECE", 1 << 16)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"a": "x" * 10_000}] * 400))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_json(path)) == 400
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20, "buffers, and some pieces of 64 KiB; the file has 4 MB"


def test_a_document_knows_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(' \n\n  [ 12 ,\n"x"]')
    with path.open(newline="") as file:
        document = JsonDocument(file)
        assert (document.peek(), document.line, document.column) == ("[", 3, 3)
        document.skip()
        document.peek()
        assert document.take(json.JSONDecoder()) == (12, "")
        assert (document.peek(), document.column) == (",", 8)
        document.skip()
        assert (document.peek(), document.line, document.column) == ('"', 4, 1)
