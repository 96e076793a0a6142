"""About how many rows a source has, told from its first bytes: for the time that is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_cli.data.readers.read import kind_of_file

LINES = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt")
"""Kinds of files that hold about a row a line."""
SAMPLED_BYTES = 1 << 20


def estimated_rows(files: Sequence[Path], max_rows: int | None) -> int | None:
    """Return about how many rows will be read, or None where a file does not show it."""
    estimates = [_estimate(file) for file in files]
    known = [rows for rows in estimates if rows is not None]
    if len(known) < len(estimates):
        return None
    return min(sum(known), max_rows or sum(known))


def _estimate(file: Path) -> int | None:
    kind = kind_of_file(file)
    if kind == ".parquet":
        return _rows_of_parquet(file)
    if kind not in LINES or kind != file.suffix.lower():  # a packed file hides its length
        return None
    with file.open("rb") as opened:
        sample = opened.read(SAMPLED_BYTES)
    lines = max(1, sample.count(b"\n"))
    return max(lines, round(lines * file.stat().st_size / max(1, len(sample))))


def _rows_of_parquet(file: Path) -> int | None:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as opened:
        return int(opened.metadata.num_rows)
