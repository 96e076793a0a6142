"""Parquet and Arrow: the values that JSON has come as they are, the others as Python has them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from lora_cli.data.readers.raw_row import RawRow
from lora_cli.data.readers.read import read_rows
from lora_cli.errors import MissingDependencyError
from lora_cli.formats.row_format import RowProblemError, text_column

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
ROWS: list[dict[str, Any]] = [
    {"messages": TURNS, "n": 1, "share": 0.5, "ok": True, "tags": ["a", None], "note": None},
    {"messages": [], "n": -(2**60), "share": None, "ok": False, "tags": [], "note": "é"},
] * 400


def written(folder: Path, kind: str, table: Any) -> Path:
    if kind == "parquet":
        path = folder / "rows.parquet"
        pyarrow.parquet.write_table(table, path, row_group_size=300)
        return path
    path = folder / "rows.arrow"
    new = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
    with pyarrow.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)
    return path


@pytest.fixture(params=["parquet", "file", "stream"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_rows_are_numbered_over_batches(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, pyarrow.Table.from_pylist(ROWS))
    assert list(read_rows(path)) == [RawRow(number, row) for number, row in enumerate(ROWS, 1)]


def test_what_has_no_place_in_json(tmp_path: Path, kind: str) -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    table = pyarrow.table(
        {
            "image": [b"\x89PNG"],
            "at": pyarrow.array([when], pyarrow.timestamp("us", "UTC")),
            "price": [Decimal("1.5")],
            "kind": pyarrow.array(["a"]).dictionary_encode(),
            "map": pyarrow.array([[("k", 1)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
            "score": [float("nan")],
        }
    )
    (row,) = read_rows(written(tmp_path, kind, table))
    assert row.columns is not None
    assert row.columns["at"] == when
    assert row.columns | {"at": None} == {
        "image": b"\x89PNG",
        "at": None,
        "price": Decimal("1.5"),
        "kind": "a",
        "map": {"k": 1},
        "score": None,
    }


@pytest.mark.parametrize(
    ("value", "kind"),
    [(b"a", "bytes"), (datetime(2026, 1, 2, tzinfo=UTC), "a datetime"), (Decimal(1), "a Decimal")],
)
def test_a_format_says_what_it_cannot_read(tmp_path: Path, value: object, kind: str) -> None:
    (row,) = read_rows(written(tmp_path, "parquet", pyarrow.table({"text": [value]})))
    with pytest.raises(RowProblemError, match=f"column `text` holds {kind}, not text"):
        text_column(row.columns or {}, "text")


def test_a_map_with_a_key_twice_is_a_bad_row(tmp_path: Path, kind: str) -> None:
    maps = pyarrow.array(
        [[("k", 1)], [("k", 1), ("k", 2)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())
    )
    first, second = read_rows(written(tmp_path, kind, pyarrow.table({"map": maps})))
    assert first == RawRow(1, {"map": {"k": 1}})
    assert second.columns is None
    assert second.reason.startswith("column `map` (map<string, int64")
    assert ") cannot be read: KeyError: " in second.reason


def test_without_pyarrow_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "parquet", pyarrow.table({"a": [1]}))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match="Parquet needs the package pyarrow") as caught:
        list(read_rows(path))
    assert caught.value.problems[0].hint == "pip install 'loracli[arrow]'"
    (tmp_path / "a.jsonl.zst").touch()
    with pytest.raises(MissingDependencyError, match="zst needs the package pyarrow"):
        list(read_rows(tmp_path / "a.jsonl.zst"))
