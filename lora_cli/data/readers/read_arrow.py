"""Arrow → rows: a file (Feather is one) or a stream, as `datasets` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lora_cli.data.readers.arrow_rows import reading, rows_of
from lora_cli.data.readers.raw_row import RawRow

FILE_SIGNATURE = b"ARROW1"


def read_arrow(path: Path) -> Iterator[RawRow]:
    """Give the rows of an Arrow file in order; it is mapped, so that memory stays flat.

    Raises:
        PlanError: the file cannot be read, or is no Arrow.
    """
    with reading(path, "Arrow") as pyarrow, path.open("rb") as opened:
        is_file = opened.read(len(FILE_SIGNATURE)) == FILE_SIGNATURE
        with pyarrow.memory_map(str(path)) as source:
            yield from rows_of(path, _batches(pyarrow, source, is_file=is_file))


def _batches(pyarrow: Any, source: Any, *, is_file: bool) -> Iterator[Any]:
    if not is_file:
        yield from pyarrow.ipc.open_stream(source)
        return
    file = pyarrow.ipc.open_file(source)
    for number in range(file.num_record_batches):
        yield file.get_batch(number)
