"""What is known of a data set once its rows have been read and tokenized (by `data`)."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A row that is not used: where it stands (lines and columns count from 1) and why."""

    file: str
    line: int
    reason: str
    column: int = 0


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """The rows of a source that are not used: all counted, the first ones named."""

    count: int = 0
    first: tuple[DroppedRow, ...] = ()
    by_reason: tuple[tuple[str, int], ...] = ()
    """Reasons, their figures left out, and how many rows each stands for; the most first."""

    def __post_init__(self) -> None:
        assert self.count == sum(count for _, count in self.by_reason), "a drop has no reason"


@dataclass(frozen=True, slots=True)
class NotedRows:
    """Rows of a source that are used, with something worth a look: all counted, some named."""

    count: int = 0
    first: tuple[DroppedRow, ...] = ()
    """Where they stand, and what is noted of them as `reason`."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file of rows and its content."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One source of rows: one file or more. rows = kept + dropped."""

    files: tuple[FileFacts, ...]
    format: str
    evidence: str
    """Why the rows are read in this format."""
    rows: int
    kept: int
    dropped: DroppedRows = DroppedRows()
    unused_columns: tuple[str, ...] = ()
    """Columns that rows have and the format does not read."""
    control_tokens: NotedRows = NotedRows()
    """Rows that have control tokens typed in their turns."""

    def __post_init__(self) -> None:
        assert self.rows == self.kept + self.dropped.count, "a row was lost"


class TokenFacts(BaseModel):
    """Tokens of the rows that are kept, after truncation; what is trained on is `supervised`.

    They stand in the plan as they are, and so come out of its JSON again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    total: int
    supervised: int
    truncated_rows: int
    cut_tokens: int
    cut_turns: int = 0
    """Answers that are cut off, whole or in part."""
    median: int
    percentile_95: int
    longest: int
    rows_with_end: int
    """Rows whose end-of-turn (or end-of-text) token is trained on."""


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """The training rows, and the rows kept apart for evaluation (None: there are none)."""

    sources: tuple[SourceFacts, ...]
    evaluation_source: SourceFacts | None
    train: TokenFacts
    evaluation: TokenFacts | None
    highest_token_id: int
    """Of all rows; the model's vocabulary must reach it."""
