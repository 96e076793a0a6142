"""The files of a plan → tokenized rows, every row counted: kept, or dropped with a reason."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from lora_cli.data.read import RawRow, read_jsonl
from lora_cli.data.tokenize import TokenizedRow, Tokenizer
from lora_cli.errors import LoraCliError, PlanError, Problem, Where
from lora_cli.facts.dataset import DatasetFacts, DroppedRow, SourceFacts, TokenFacts
from lora_cli.files import sha256_of_file
from lora_cli.formats import FORMATS, Example, FormatName, RowProblemError

SHOWN_BAD_ROWS = 10


@dataclass(frozen=True, slots=True)
class RowSource:
    """One file of rows and how to read it; all values final but `format`, which may be `auto`."""

    file: Path
    format: FormatName = "auto"
    max_rows: int | None = None
    system_prompt: str | None = None
    on_bad_row: Literal["error", "skip"] = "error"


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is used: its tokens, and the example they came from."""

    tokens: TokenizedRow
    example: Example


@dataclass(frozen=True)
class Dataset:
    """The rows of a run, and their facts."""

    train: tuple[Row, ...]
    evaluation: tuple[Row, ...]
    facts: DatasetFacts


def load_dataset(
    sources: Sequence[RowSource],
    tokenizer: Tokenizer,
    *,
    evaluation: RowSource | None = None,
    split: float | None = None,
    seed: int = 0,
) -> Dataset:
    """Return the training rows and the rows kept apart.

    Raises:
        PlanError: a file is missing, no format fits, or a row is bad and its source says `error`.
    """
    rows: list[Row] = []
    facts = []
    for source in sources:
        kept, source_facts = _load_source(source, tokenizer)
        rows += kept
        facts.append(source_facts)
    train, apart = split_rows(rows, split, seed) if split else (rows, [])
    evaluation_facts = None
    if evaluation is not None:
        apart, evaluation_facts = _load_source(evaluation, tokenizer)
    return Dataset(
        train=tuple(train),
        evaluation=tuple(apart),
        facts=DatasetFacts(
            sources=tuple(facts),
            evaluation_source=evaluation_facts,
            train=_token_facts(train),
            evaluation=_token_facts(apart) if apart else None,
        ),
    )


def split_rows(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return (train, evaluation): about `share` of the rows drawn with the seed, order kept."""
    count = max(1, round(len(rows) * share))
    if count >= len(rows):
        message = f"a share of {share} of {len(rows)} rows leaves nothing to train on"
        raise PlanError(message, Where(key="evaluation.split"), "add rows, or take a smaller share")
    drawn = set(random.Random(f"{seed}:split").sample(range(len(rows)), count))  # noqa: S311
    train = [row for index, row in enumerate(rows) if index not in drawn]
    return train, [rows[index] for index in sorted(drawn)]


def _load_source(source: RowSource, tokenizer: Tokenizer) -> tuple[list[Row], SourceFacts]:
    raw = list(islice(read_jsonl(source.file), source.max_rows))
    if not raw:
        raise PlanError("holds no rows", str(source.file), "a row is one JSON mapping a line")
    format_name, evidence = _format_of(source, raw)
    if format_name == "messages" and not tokenizer.has_chat_template:
        message = "holds conversations, but the model's tokenizer has no chat template"
        hint = "take the instruct version of the model, or rows of `prompt` and `completion`"
        raise PlanError(message, str(source.file), hint)
    kept, dropped = _tokenize(raw, source, format_name, tokenizer)
    if dropped and source.on_bad_row == "error":
        raise _bad_rows_error(dropped)
    facts = SourceFacts(
        file=str(source.file),
        sha256=sha256_of_file(source.file),
        format=format_name,
        evidence=evidence,
        rows=len(raw),
        kept=len(kept),
        dropped=tuple(dropped),
    )
    return kept, facts


def _tokenize(
    raw: Sequence[RawRow], source: RowSource, format_name: str, tokenizer: Tokenizer
) -> tuple[list[Row], list[DroppedRow]]:
    row_format = FORMATS[format_name]
    kept, dropped = [], []
    for row in raw:
        try:
            if row.columns is None:
                raise RowProblemError(row.reason)
            example = row_format.example(row.columns)
            kept.append(Row(tokenizer.tokenize(example, source.system_prompt), example))
        except RowProblemError as problem:
            dropped.append(DroppedRow(str(source.file), row.line, str(problem)))
    return kept, dropped


def _format_of(source: RowSource, raw: Sequence[RawRow]) -> tuple[str, str]:
    """Return the format's name, and why it is the one."""
    if source.format != "auto":
        return source.format, "named in the recipe"
    columns = next((row.columns for row in raw if row.columns is not None), None)
    if columns is None:
        raise _bad_rows_error([DroppedRow(str(source.file), row.line, row.reason) for row in raw])
    fitting = [name for name, form in FORMATS.items() if form.columns <= columns.keys()]
    listing = ", ".join(f"`{column}`" for column in columns) or "none"
    if len(fitting) == 1:
        return fitting[0], f"the columns are {listing}"
    known = "; ".join(f"{name}: {', '.join(sorted(FORMATS[name].columns))}" for name in FORMATS)
    if fitting:
        message = f"the columns {listing} fit more than one format: {', '.join(fitting)}"
        raise PlanError(message, str(source.file), "name one with `dataset.format`")
    message = f"the columns {listing} fit no format"
    raise PlanError(message, str(source.file), f"formats and their columns: {known}")


def _bad_rows_error(dropped: Sequence[DroppedRow]) -> LoraCliError:
    problems = [
        Problem(Where(row.file, row.line), row.reason) for row in dropped[:SHOWN_BAD_ROWS]
    ]
    if len(dropped) > SHOWN_BAD_ROWS:
        message = f"{len(dropped) - SHOWN_BAD_ROWS} more rows cannot be used"
        problems.append(Problem(Where(dropped[0].file), message))
    last = problems[-1]
    hint = "mend them, or leave them out with `on_bad_row: skip` under `dataset`"
    problems[-1] = Problem(last.where, last.message, hint)
    return PlanError.from_problems(problems)


def _token_facts(rows: Sequence[Row]) -> TokenFacts:
    if not rows:
        raise PlanError("no row is left to train on", hint="see why rows were dropped")
    lengths = sorted(row.tokens.input_ids.size for row in rows)
    return TokenFacts(
        rows=len(rows),
        total=sum(lengths),
        supervised=sum(row.tokens.supervised for row in rows),
        truncated_rows=sum(row.tokens.cut_tokens > 0 for row in rows),
        cut_tokens=sum(row.tokens.cut_tokens for row in rows),
        median=_percentile(lengths, 0.5),
        percentile_95=_percentile(lengths, 0.95),
        longest=lengths[-1],
        rows_with_end=sum(row.tokens.ends for row in rows),
    )


def _percentile(ordered: Sequence[int], share: float) -> int:
    """Return the smallest length that `share` of the rows do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


