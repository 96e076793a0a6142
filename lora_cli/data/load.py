"""The files of a plan → the rows to train on and the rows kept apart, and what is known of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lora_cli.data.encoding.encoder import Encoder
from lora_cli.data.rows import Row, Rows, SourceRows
from lora_cli.data.source import RowSource, load_source
from lora_cli.errors import PlanError, Problem, Where
from lora_cli.events import Report, unheard
from lora_cli.facts.dataset import DatasetFacts, SourceFacts, TokenFacts
from lora_cli.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Dataset", "Row", "RowSource", "Rows", "load_dataset", "split_rows"]


@dataclass(frozen=True)
class Dataset:
    """The rows of a run, and their facts."""

    train: Rows
    evaluation: Rows
    facts: DatasetFacts


def load_dataset(
    sources: Sequence[RowSource],
    encoder: Encoder,
    *,
    evaluation: RowSource | None = None,
    split: float | None = None,
    seed: int = 0,
    report: Report = unheard,
) -> Dataset:
    """Return the training rows and the rows kept apart: a share of them, a file, or none.

    Raises:
        PlanError: with every file that is missing or fits no format, and every bad row of a
            source that says `error`.
    """
    assert evaluation is None or split is None, "the rows to evaluate on are named once"
    loaded = _load_all([*sources, *([evaluation] if evaluation else [])], encoder, report)
    rows = Rows([part for part, _ in loaded[: len(sources)]])
    apart = rows.take([])
    if evaluation is not None:
        apart = Rows([loaded[-1][0]])
    elif split is not None:
        examples = rows.example_numbers
        kept, drawn = split_rows(int(examples[-1]) + 1, split, seed)
        apart = rows.take(np.flatnonzero(np.isin(examples, drawn)))
        rows = rows.take(np.flatnonzero(np.isin(examples, kept)))
    return Dataset(
        train=rows,
        evaluation=apart,
        facts=DatasetFacts(
            sources=tuple(facts for _, facts in loaded[: len(sources)]),
            evaluation_source=loaded[-1][1] if evaluation else None,
            train=_token_facts(rows),
            evaluation=_token_facts(apart) if apart else None,
            highest_token_id=max(part.highest_token for part, _ in loaded),
        ),
    )


def split_rows(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of (train, evaluation): about `share` of `count` rows, drawn by the seed.

    Raises:
        PlanError: nothing would be left to train on.
    """
    apart = max(1, round(count * share))
    if apart >= count:
        message = f"a share of {share:g} of {counted(count, 'row')} leaves nothing to train on"
        raise PlanError(message, Where(key="evaluation.split"), "add rows, or take a smaller share")
    is_apart = np.zeros(count, dtype=np.bool_)
    drawn = random.Random(f"{seed}:split").sample(range(count), apart)  # noqa: S311
    is_apart[drawn] = True
    return np.flatnonzero(~is_apart), np.flatnonzero(is_apart)


def _load_all(
    sources: Sequence[RowSource], encoder: Encoder, report: Report
) -> list[tuple[SourceRows, SourceFacts]]:
    loaded: list[tuple[SourceRows, SourceFacts]] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            loaded.append(load_source(source, encoder, report))
        except PlanError as error:
            problems += error.problems
    if problems:
        # a broken template is found with every file, and is one problem
        raise PlanError.from_problems(dict.fromkeys(problems))
    return loaded


def _token_facts(rows: Rows) -> TokenFacts:
    lengths, cut = np.sort(rows.lengths), rows.figures("cut_tokens")
    return TokenFacts(
        rows=len(rows),
        total=int(lengths.sum()),
        supervised=int(rows.supervised.sum()),
        truncated_rows=int((cut > 0).sum()),
        cut_tokens=int(cut.sum()),
        cut_turns=int(rows.figures("cut_turns").sum()),
        median=_percentile(lengths, 0.5),
        percentile_95=_percentile(lengths, 0.95),
        longest=int(lengths[-1]),
        rows_with_end=int(rows.figures("ends").sum()),
    )


def _percentile(ordered: NDArray[np.int32], share: float) -> int:
    """Return the smallest length that `share` of the rows do not exceed."""
    return int(ordered[max(0, math.ceil(share * len(ordered)) - 1)])
