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
class SourceFacts:
    """One file of rows. rows = kept + len(dropped)."""

    file: str
    sha256: str
    format: str
    evidence: str
    """Why the rows are read in this format."""
    rows: int
    kept: int
    dropped: tuple[DroppedRow, ...]
    unused_columns: tuple[str, ...] = ()
    """Columns that rows have and the format does not read."""

    def __post_init__(self) -> None:
        assert self.rows == self.kept + len(self.dropped), "a row was lost"


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
