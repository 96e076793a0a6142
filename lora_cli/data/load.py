"""The files of a plan → the rows to train on and the rows kept apart, and what is known of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from lora_cli.data.source import Row, RowSource, load_source
from lora_cli.data.tokenize import Tokenizer
from lora_cli.errors import PlanError, Problem, Where
from lora_cli.facts.dataset import DatasetFacts, SourceFacts, TokenFacts
from lora_cli.words import counted

__all__ = ["Dataset", "Row", "RowSource", "load_dataset", "split_rows"]


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
    """Return the training rows and the rows kept apart: a share of them, a file, or none.

    Raises:
        PlanError: with every file that is missing or fits no format, and every bad row of a
            source that says `error`.
    """
    assert evaluation is None or split is None, "the rows to evaluate on are named once"
    loaded = _load_all([*sources, *([evaluation] if evaluation else [])], tokenizer)
    rows = [row for kept, _ in loaded[: len(sources)] for row in kept]
    apart: list[Row] = []
    if evaluation is not None:
        apart = loaded[-1][0]
    elif split is not None:
        rows, apart = split_rows(rows, split, seed)
    return Dataset(
        train=tuple(rows),
        evaluation=tuple(apart),
        facts=DatasetFacts(
            sources=tuple(facts for _, facts in loaded[: len(sources)]),
            evaluation_source=loaded[-1][1] if evaluation else None,
            train=_token_facts(rows),
            evaluation=_token_facts(apart) if apart else None,
            highest_token_id=max(int(row.tokens.input_ids.max()) for row in [*rows, *apart]),
        ),
    )


def split_rows(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return (train, evaluation): about `share` of the rows drawn with the seed, order kept.

    Raises:
        PlanError: nothing would be left to train on.
    """
    count = max(1, round(len(rows) * share))
    if count >= len(rows):
        message = f"a share of {share:g} of {counted(len(rows), 'row')} leaves nothing to train on"
        raise PlanError(message, Where(key="evaluation.split"), "add rows, or take a smaller share")
    drawn = set(random.Random(f"{seed}:split").sample(range(len(rows)), count))  # noqa: S311
    train = [row for index, row in enumerate(rows) if index not in drawn]
    return train, [rows[index] for index in sorted(drawn)]


def _load_all(
    sources: Sequence[RowSource], tokenizer: Tokenizer
) -> list[tuple[list[Row], SourceFacts]]:
    loaded: list[tuple[list[Row], SourceFacts]] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            loaded.append(load_source(source, tokenizer))
        except PlanError as error:
            problems += error.problems
    if problems:
        # a broken template is found with every file, and is one problem
        raise PlanError.from_problems(dict.fromkeys(problems))
    return loaded


def _token_facts(rows: Sequence[Row]) -> TokenFacts:
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
