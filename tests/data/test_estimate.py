"""About how many rows there are: near enough for the time that is left, and never a wait."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lora_cli.data.estimate import estimated_rows


@pytest.mark.parametrize("rows", [1, 10, 30_000])
def test_rows_of_lines_are_estimated_from_the_first(tmp_path: Path, rows: int) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "".join(f'{{"text": "row {row:05} of them all, padded"}}\n' for row in range(rows))
    )
    found = estimated_rows([file], None)
    assert found is not None
    assert 0.99 * rows <= found <= 1.01 * rows
    assert estimated_rows([file, file], None) == pytest.approx(2 * found)
    assert estimated_rows([file], 7) == min(7, found)


def test_a_file_without_a_line_end(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("a" * 100)
    assert estimated_rows([file], None) == 1


def test_what_cannot_be_told_is_not_told(tmp_path: Path) -> None:
    packed, listed = tmp_path / "rows.jsonl.gz", tmp_path / "rows.json"
    packed.write_bytes(gzip.compress(b'{"text": "a"}\n'))
    listed.write_text('[{"text": "a"}]')
    assert estimated_rows([packed], None) is None
    assert estimated_rows([listed], 5) is None


def test_parquet_says_it(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["a"] * 12}), tmp_path / "rows.parquet")
    assert estimated_rows([tmp_path / "rows.parquet"], None) == 12
