"""The rows of a run: a sequence over stores, in which nothing is read before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.data.readers.read import read_rows
from lora_cli.data.store import Store
from lora_cli.errors import RunError
from lora_cli.facts.cache import cached_sha256
from lora_cli.facts.dataset import FileFacts
from lora_cli.formats import Example, RowFormat

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is used: its tokens, where it stands, and which source of the recipe it is of."""

    tokens: TokenizedRow
    file: str
    line: int
    source: int
    read_example: Callable[[], Example] = field(repr=False, compare=False)

    @property
    def example(self) -> Example:
        """Return what the tokens came from, read again: for more than a few, `Rows.examples`."""
        return self.read_example()


@dataclass(frozen=True, slots=True)
class SourceRows:
    """The rows of one source, and what their examples are read from again."""

    store: Store
    files: tuple[FileFacts, ...]
    format: RowFormat
    names: tuple[str, ...] = ()
    """The columns of a table that has no header."""
    highest_token: int = -1


class Rows(Sequence[Row]):
    """Rows of one source or several; `lengths`, `supervised` and `source` hold a figure a row."""

    def __init__(
        self,
        parts: Sequence[SourceRows],
        source: NDArray[np.int32] | None = None,
        place: NDArray[np.int64] | None = None,
    ) -> None:
        """Take all rows of `parts` in order, or row `place[i]` of part `source[i]` as row `i`."""
        counts = [len(part.store) for part in parts]
        if source is None or place is None:
            source = np.repeat(np.arange(len(parts), dtype=np.int32), counts)
            place = np.concatenate([np.arange(count) for count in [0, *counts]])
        self._parts = tuple(parts)
        self._place = place
        self._held: tuple[Example, ...] | None = None
        self.source = source
        self.lengths: NDArray[np.int32] = self.figures("length")
        self.supervised: NDArray[np.int32] = self.figures("supervised")

    def __len__(self) -> int:
        return len(self.source)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        number, place = int(self.source[index]), int(self._place[index])
        part = self._parts[number]
        held = part.store.rows[place]
        return Row(
            tokens=self.tokens(index),
            file=part.files[held["file"]].file,
            line=int(held["line"]),
            source=number,
            read_example=lambda: next(self.take([index]).examples()),
        )

    def tokens(self, index: int) -> TokenizedRow:
        """Return a row's tokens alone."""
        store = self._parts[int(self.source[index])].store
        return store.tokens(int(self._place[index]))

    def take(self, indices: ArrayLike) -> Rows:
        """Return these of the rows, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Rows(self._parts, self.source[chosen], self._place[chosen])

    def figures(self, name: str) -> NDArray[Any]:
        """Return one field of ROW (see `store`) for each row."""
        values = np.empty(len(self), dtype=self._parts[0].store.rows.dtype[name])
        for number, part in enumerate(self._parts):
            mine = self.source == number
            values[mine] = part.store.rows[name][self._place[mine]]
        return values

    @property
    def example_numbers(self) -> NDArray[np.int64]:
        """Return which example each row is of, from 0: a long one can be several rows."""
        differs = np.zeros(len(self), np.bool_)
        for figures in (self.source, self.figures("file"), self.figures("line")):
            differs[1:] |= np.diff(figures) != 0
        return np.cumsum(differs)

    def examples(self) -> Iterator[Example]:
        """Give what each row's tokens came from, in order: each file is read once.

        Raises:
            RunError: a file is no longer what it was when its rows were tokenized.
        """
        return iter(self._held) if self._held is not None else self._read_examples()

    def hold_examples(self) -> None:
        """Keep what the rows came from in memory: a file may change while a run goes on."""
        self._held = tuple(self._read_examples())

    def _read_examples(self) -> Iterator[Example]:
        files, lines = self.figures("file"), self.figures("line")
        # a reader only goes forward: where lines descend, the file is opened again
        again = np.cumsum(np.diff(lines, prepend=0) < 0)
        runs = zip(self.source.tolist(), files.tolist(), again.tolist(), strict=True)
        for (number, file, _), indices in groupby(range(len(self)), list(runs).__getitem__):
            part = self._parts[number]
            yield from _examples(part, part.files[file], lines[list(indices)].tolist())


def _examples(part: SourceRows, facts: FileFacts, lines: Sequence[int]) -> Iterator[Example]:
    file = Path(facts.file)
    if not file.is_file() or cached_sha256(file) != facts.sha256:
        raise RunError("changed after its rows were read", facts.file, "start again")
    wanted = iter(lines)
    line = next(wanted)
    for row in read_rows(file, part.names):
        while row.line == line:
            assert row.columns is not None, "a row that was kept is bad"
            yield part.format.example(row.columns)
            following = next(wanted, None)
            if following is None:
                return
            line = following
