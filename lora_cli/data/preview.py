"""What a run will learn from, told before it does: some rows as they are, and figures of all.

Nothing here holds more than some rows' tokens at once; the figures come from the arrays of `Rows`.
This module does not know how anything is drawn (`console`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lora_cli.data.batches.packing import Pack
from lora_cli.data.duplicates import Duplicates, exact_duplicates, near_duplicates
from lora_cli.data.encoding.encoder import Encoder
from lora_cli.data.lengths import Lengths, lengths_of
from lora_cli.data.load import Dataset
from lora_cli.data.preview_inference import InferenceCheck, check_inference
from lora_cli.data.preview_rows import RowReader, ShownRow
from lora_cli.data.rows import Rows
from lora_cli.facts.dataset import SourceFacts, TokenFacts
from lora_cli.tasks import TaskSpec
from lora_cli.tasks.seq2seq_lm import Seq2SeqLm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

LISTED = 100
"""Rows of a kind that are named; all are counted."""
TOKENS_COMPARED = 4_000_000
MOST_COMPARED = 20_000
"""Rows, and of long rows tokens, among which near duplicates are looked for: some seconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands, and what was cut from it."""

    file: str
    line: int
    cut_tokens: int
    cut_turns: int


@dataclass(frozen=True, slots=True)
class Listed:
    """Rows of a kind: all counted, the first ones named."""

    count: int
    first: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Rows that are like an earlier one, or like one of the `against` rows of another set.

    Near ones are looked for among `near.compared` rows of `rows`; exact ones are among them.
    """

    rows: int
    against: int
    against_all: int
    exact: Duplicates
    near: Duplicates

    @property
    def is_sample(self) -> bool:
        """Return whether near ones were not looked for among all rows."""
        return self.near.compared < self.rows or self.against < self.against_all


@dataclass(frozen=True, slots=True)
class PackFacts:
    """Packs of rows, and the share of their space that holds tokens."""

    count: int
    full: float


@dataclass(frozen=True, slots=True)
class Preview:
    """Some rows in the order of training, and the account of all."""

    shown: tuple[tuple[ShownRow, ...], ...]
    """Each a row, or the rows of a pack."""
    sources: tuple[SourceFacts, ...]
    evaluation_source: SourceFacts | None
    train: TokenFacts
    evaluation: TokenFacts | None
    packs: PackFacts | None
    lengths: Lengths
    truncated: Listed
    without_end: Listed | None
    """Rows that train on no token that ends an answer; None where the task writes no text."""
    duplicates: Likeness
    leakage: Likeness | None
    """Evaluation rows that are like training rows; None where there is no evaluation."""
    inference: InferenceCheck | None
    """None where no row is a conversation."""

    @property
    def all_sources(self) -> tuple[SourceFacts, ...]:
        """Return the sources of training, and after them that of evaluation, if it has its own."""
        apart = self.evaluation_source
        return (*self.sources, *([apart] if apart else []))


@dataclass(frozen=True)
class Selection:
    """What to look at: rows to show, as units of their order, and how they were made."""

    units: Sequence[Pack]
    packs: PackFacts | None
    max_length: int
    task: TaskSpec
    system_prompts: Sequence[str | None]
    """Of each source."""


def make_preview(
    dataset: Dataset, encoder: Encoder, reader: RowReader, chosen: Selection
) -> Preview:
    """Return the preview of a data set.

    Raises:
        RunError: a file is no longer what it was when its rows were tokenized.
    """
    rows, facts = dataset.train, dataset.facts
    cut = rows.figures("cut_tokens")
    # of source and target it is only known how much both together lost
    lengths = rows.lengths if isinstance(chosen.task, Seq2SeqLm) else rows.lengths + cut
    shown = [row for unit in chosen.units for row in unit]
    return Preview(
        shown=tuple(tuple(reader.row(rows[row]) for row in unit) for unit in chosen.units),
        sources=facts.sources,
        evaluation_source=facts.evaluation_source,
        train=facts.train,
        evaluation=facts.evaluation,
        packs=chosen.packs,
        lengths=lengths_of(lengths, chosen.max_length),
        truncated=_listed(rows, cut > 0),
        without_end=_without_end(rows) if chosen.task.generates else None,
        duplicates=_likeness(_distinct(rows)),
        leakage=_likeness(_distinct(dataset.evaluation), _distinct(rows))
        if len(dataset.evaluation)
        else None,
        inference=check_inference(rows, encoder, chosen.system_prompts, shown),
    )


def _listed(rows: Rows, chosen: Mask) -> Listed:
    indices = np.flatnonzero(chosen)
    first = rows.take(indices[:LISTED])
    places = (
        Place(row.file, row.line, row.tokens.cut_tokens, row.tokens.cut_turns) for row in first
    )
    return Listed(len(indices), tuple(places))


def _last_of_example(rows: Rows) -> Mask:
    numbers = rows.example_numbers
    last: Mask = np.ones(len(rows), np.bool_)
    last[:-1] = numbers[1:] != numbers[:-1]
    return last


def _without_end(rows: Rows) -> Listed:
    """Return the rows that learn no end; of a long text, only its last row has one to learn."""
    ought = _last_of_example(rows) | (rows.figures("prompt_tokens") > 1)
    return _listed(rows, ought & (rows.figures("ends") == 0))


def _distinct(rows: Rows) -> Rows:
    """Return the rows, of a conversation that is several only the one that holds all of it."""
    return rows.take(np.flatnonzero(_last_of_example(rows) | (rows.figures("prompt_tokens") == 1)))


def _likeness(rows: Rows, other: Rows | None = None) -> Likeness:
    known = rows if other is None else other
    mean_length = max(1.0, float(known.lengths.mean()))
    most = min(MOST_COMPARED, max(1, int(TOKENS_COMPARED / mean_length)))
    return Likeness(
        rows=len(rows),
        against=min(most, len(known)),
        against_all=len(known),
        exact=exact_duplicates(rows, other),
        near=near_duplicates(rows, other, most_rows=most),
    )
