"""Plain text → rows of one column `text`, for continued pre-training.

A row is a paragraph: lines up to a blank one. In a file without a blank line between its lines
each line is a row, so that a list of texts is not taken for one text and cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lora_cli.data.readers.open_file import flaw_of, opened_text, text_lines_of
from lora_cli.data.readers.raw_row import LONGEST_ROW, RawRow
from lora_cli.errors import PlanError, Where


def read_text(path: Path) -> Iterator[RawRow]:
    """Give the paragraphs of a file, or its lines where it has no paragraphs.

    Raises:
        PlanError: the file cannot be read, or a paragraph is longer than any row.
    """
    rows = _paragraphs if _has_paragraphs(path) else _lines
    with opened_text(path) as file:
        yield from rows(path, text_lines_of(path, file))


def _has_paragraphs(path: Path) -> bool:
    """Return whether a blank line stands between two lines of text."""
    with opened_text(path) as file:
        filled = [False, False]  # this line, and any before the last blank one
        for line in text_lines_of(path, file):
            blank = not line.strip()
            if not blank and filled[1]:
                return True
            filled = [not blank, filled[1] or (blank and filled[0])]
    return False


def _lines(_path: Path, lines: Iterator[str]) -> Iterator[RawRow]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _row(number, [line])


def _paragraphs(path: Path, lines: Iterator[str]) -> Iterator[RawRow]:
    held: list[str] = []
    size = 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            held.append(line)
            size += len(line)
        elif held:
            yield _row(number - len(held), held)
            held, size = [], 0
        if size > LONGEST_ROW:
            message = f"a paragraph of over {LONGEST_ROW >> 20} MB"
            raise PlanError(message, Where(str(path), number - len(held) + 1))
    if held:
        yield _row(number - len(held) + 1, held)


def _row(first: int, lines: list[str]) -> RawRow:
    """Return the row of a paragraph that begins in line `first`."""
    for number, line in enumerate(lines, first):
        flaw, column = flaw_of(line)
        if flaw:
            return RawRow(number, None, flaw, column)
    return RawRow(first, {"text": "".join(lines).rstrip("\r\n")})
