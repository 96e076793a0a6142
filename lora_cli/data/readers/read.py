"""A file of any kind → rows with their line numbers, or the reason why one is none.

This module does not know what a row means (`formats`) or what happens to bad ones (`source`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

from lora_cli.data.readers.open_file import BYTE_ORDER_MARK, UNPACKERS
from lora_cli.data.readers.raw_row import RawRow
from lora_cli.data.readers.read_arrow import read_arrow
from lora_cli.data.readers.read_json import read_json
from lora_cli.data.readers.read_jsonl import read_jsonl
from lora_cli.data.readers.read_parquet import read_parquet
from lora_cli.data.readers.read_table import read_csv, read_tsv
from lora_cli.data.readers.read_text import read_text
from lora_cli.errors import PlanError

__all__ = ["BYTE_ORDER_MARK", "READERS", "RawRow", "kind_of_file", "read_jsonl", "read_rows"]

READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".txt": read_text,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
"""What reads a file, by its suffix."""
TABLES = {".csv": read_csv, ".tsv": read_tsv}
"""Those whose columns the recipe can name."""
PACKED = frozenset(READERS) - {".parquet", ".arrow", ".feather"}
"""Those that may have a suffix of `UNPACKERS` as well; the others are packed inside."""
KNOWN = f"{' '.join(READERS)}; those of text also with {' '.join(UNPACKERS)}; .zip by its name"


def read_rows(file: Path, names: Sequence[str] = ()) -> Iterator[RawRow]:
    """Give the rows of a file in order, in constant memory.

    `names` are those of the columns, for a CSV or TSV file without a header.

    Raises:
        PlanError: the file cannot be read, or not to its end; also while rows are given.
    """
    kind = kind_of_file(file)
    if kind is None:
        message = f"`{file.name}` is of no kind that is read"
        raise PlanError(message, str(file), f"kinds: {KNOWN}")
    if not names:
        return READERS[kind](file)
    if kind not in TABLES:
        hint = "write a mapping of the format's columns to the file's, or nothing"
        message = f"a list of `columns` names those of CSV or TSV; {kind} files name their own"
        raise PlanError(message, str(file), hint)
    return TABLES[kind](file, names)


def kind_of_file(file: PurePath) -> str | None:
    """Return the suffix by which a file is read, or None if it is not of a known kind."""
    *_, before, last = ["", "", *(suffix.lower() for suffix in file.suffixes)]
    if last in UNPACKERS:
        return before if before in PACKED else None
    return last if last in READERS else None
