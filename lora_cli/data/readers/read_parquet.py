"""Parquet → rows, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lora_cli.data.readers.arrow_rows import BATCH_ROWS, reading, rows_of
from lora_cli.data.readers.raw_row import RawRow


def read_parquet(path: Path) -> Iterator[RawRow]:
    """Give the rows of a Parquet file in order.

    Raises:
        PlanError: the file cannot be read, or is no Parquet.
    """
    with reading(path, "Parquet"), path.open("rb") as opened:
        from pyarrow.parquet import ParquetFile

        with ParquetFile(opened, pre_buffer=False) as file:
            # one thread: rows are read where processes have been forked as well
            batches = file.iter_batches(batch_size=BATCH_ROWS, use_threads=False)
            yield from rows_of(path, batches)
