"""A file's suffix says how it is read, and how it is packed."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.data.readers.read import READERS, TABLES, RawRow, kind_of_file, read_rows
from lora_cli.errors import PlanError
from tests.data.bad_files import zstd

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
CONTENTS = {
    ".jsonl": b'\n{"text": "a\\u00e9"}\n{"text": "b"}\n',
    ".ndjson": b'\n{"text": "a\xc3\xa9"}\n{"text": "b"}\n',
    ".json": b'[{"text": "a\xc3\xa9"},\n {"text": "b"}]',
    ".csv": b'text\n"a\xc3\xa9"\nb\n',
    ".tsv": b"text\na\xc3\xa9\nb\n",
    ".txt": b"\na\xc3\xa9\n\nb\n",
}


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("suffix", CONTENTS)
def test_a_packed_file_has_the_rows_and_lines_of_the_file(
    tmp_path: Path, suffix: str, packed: str
) -> None:
    plain = tmp_path / f"rows.v1{suffix}"
    plain.write_bytes(CONTENTS[suffix])
    path = tmp_path / f"rows.v1{suffix.upper()}{packed}"
    path.write_bytes(PACKERS[packed](CONTENTS[suffix]))
    rows = list(read_rows(path))
    assert rows == list(read_rows(plain))
    assert [row.columns for row in rows] == [{"text": "aé"}, {"text": "b"}]


def test_files_joined_after_packing_are_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n'))
    assert list(read_rows(path)) == [RawRow(1, {"a": 1}), RawRow(2, {"a": 2})]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", ".jsonl"),
        ("A.JSONL.GZ", ".jsonl"),
        ("b.csv.c.txt.zst", ".txt"),
        ("a.parquet", ".parquet"),
        ("a.parquet.gz", None),
        ("a.gz", None),
        ("a", None),
        ("a.md", None),
        (".jsonl", None),
    ],
)
def test_the_kind_of_a_file(name: str, kind: str | None) -> None:
    assert kind_of_file(Path(name)) == kind


@pytest.mark.parametrize("suffix", sorted(set(READERS) - set(TABLES)))
def test_names_are_for_tables_alone(suffix: str) -> None:
    with pytest.raises(
        PlanError, match=f"names those of CSV or TSV; {suffix} files name their own"
    ):
        read_rows(Path(f"a{suffix}"), ("text", "label"))
