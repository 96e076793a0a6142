"""JSONL, one JSON mapping a line → rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lora_cli.data.readers.json_values import row_of
from lora_cli.data.readers.open_file import lines_of, opened
from lora_cli.data.readers.raw_row import LONGEST_ROW, RawRow


def read_jsonl(path: Path) -> Iterator[RawRow]:
    """Give the rows of a JSONL file in order; blank lines are no rows.

    Raises:
        PlanError: the file cannot be read.
    """
    with opened(path) as file:
        for line, content in enumerate(lines_of(file), 1):
            if len(content) > LONGEST_ROW:
                yield RawRow(line, None, f"a row of over {LONGEST_ROW >> 20} MB")
            elif not content.isspace():
                yield row_of(line, content)
