"""Raw rows → chunks of tokenized rows, each row kept or dropped with its reason.

This module does not know how many processes do it (`workers`) or where the result is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lora_cli.data.detect import unused_columns
from lora_cli.data.encoding.encoder import Encoder, encode_all_of
from lora_cli.data.readers.read import RawRow
from lora_cli.data.store import Store, pack_rows
from lora_cli.formats import RowFormat, RowProblemError, RowTooLongError, build_format

CHUNK_ROWS = 256
CHUNK_CHARACTERS = 1 << 20
"""A chunk ends here if its rows are long: memory is bounded by characters, not by rows."""

NumberedRow = tuple[int, RawRow]
"""A row and the number of its file among those of its source."""


@dataclass(frozen=True, slots=True)
class RowEncoding:
    """How the rows of a source become tokens: all that a worker needs, as plain values."""

    format: str
    encoder: Encoder
    system_prompt: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    template: Mapping[str, str] = field(default_factory=dict)

    def row_format(self) -> RowFormat:
        """Return the format; one made of a template cannot be sent to another process."""
        return build_format(self.format, self.columns, self.template)


class Dropped(NamedTuple):
    """A row that is not used, told without the name of its file."""

    file: int
    line: int
    column: int
    reason: str
    too_long: bool = False
    """Whether the row is as it should be, and only longer than asked for."""


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """Rows one after the other: those that are kept, those that are not, and unread columns."""

    store: Store
    dropped: tuple[Dropped, ...]
    unused_columns: tuple[str, ...]
    rows: int
    kept: int
    """The store may hold more: an example can be several rows of tokens."""
    control_tokens: tuple[Dropped, ...] = ()
    """Of those that are kept, the ones with control tokens typed in them, and which."""

    def __post_init__(self) -> None:
        assert self.rows == self.kept + len(self.dropped), "a row was lost"


def chunks_of(rows: Iterable[NumberedRow]) -> Iterator[list[NumberedRow]]:
    """Give the rows in chunks that are worth sending to another process."""
    chunk: list[NumberedRow] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += _characters(row[1].columns)
        if len(chunk) == CHUNK_ROWS or characters > CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _characters(value: Any) -> int:
    """Return about how much text a value holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 1


def encode_chunk(
    encoding: RowEncoding, row_format: RowFormat, chunk: Sequence[NumberedRow]
) -> EncodedChunk:
    """Return the chunk's rows as tokens.

    Raises:
        PlanError: no row of the kind can be tokenized.
    """
    tokenized, dropped, noted, kept = [], list[Dropped](), list[Dropped](), 0
    encode = encode_all_of(encoding.encoder)
    control_tokens = getattr(encoding.encoder, "control_tokens", lambda _example: ())
    for file, row in chunk:
        try:
            if row.columns is None:
                raise RowProblemError(row.reason)
            example = row_format.example(row.columns)
            rows = encode(example, encoding.system_prompt)
            tokenized += [(file, row.line, tokens) for tokens in rows]
            kept += 1
            if typed := control_tokens(example):
                noted.append(Dropped(file, row.line, row.column, ", ".join(typed)))
        except RowProblemError as problem:
            too_long = isinstance(problem, RowTooLongError)
            dropped.append(Dropped(file, row.line, row.column, str(problem), too_long))
    columns = dict.fromkeys(tuple(row.columns) for _, row in chunk if row.columns)
    unused = dict.fromkeys(name for names in columns for name in unused_columns(row_format, names))
    return EncodedChunk(
        store=pack_rows(tokenized),
        dropped=tuple(dropped),
        unused_columns=tuple(unused),
        rows=len(chunk),
        kept=kept,
        control_tokens=tuple(noted),
    )
