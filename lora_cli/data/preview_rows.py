"""Rows as the model will see them: their text in spans, and which of them are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_cli.data.rows import Row
from lora_cli.tasks import TaskSpec
from lora_cli.tasks.seq2seq_lm import Seq2SeqLm
from lora_cli.tasks.sequence_classification import SequenceClassification
from lora_cli.tasks.task import IGNORED
from lora_cli.tasks.token_classification import TokenClassification

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens next to each other that are alike: trained on or read, special tokens or text."""

    text: str
    tokens: int
    supervised: bool
    special: bool
    label: str = ""
    """The tag that is learnt at this token, where words are tagged."""


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row; the texts of its spans put together are its text."""

    file: str
    line: int
    source: int
    tokens: int
    supervised: int
    """Tokens that are trained on; where a text is classified, its labels."""
    cut_tokens: int
    cut_turns: int
    ends: bool
    """Whether a token that ends an answer is trained on."""
    spans: tuple[Span, ...]
    labels: tuple[str, ...] = ()
    """What is learnt of the text as a whole, where it is classified."""
    target: tuple[Span, ...] = ()
    """What a decoder learns to write."""

    @property
    def text(self) -> str:
        """Return what the model reads."""
        return "".join(span.text for span in self.spans)


class RowReader:
    """Reads tokens as text again, by one tokenizer, for one task."""

    def __init__(self, tokenizer: Any, task: TaskSpec) -> None:
        self._tokenizer = tokenizer
        self._task = task
        added = tokenizer.added_tokens_decoder.items()
        special = {*tokenizer.all_special_ids, *(n for n, token in added if token.special)}
        self._special = np.array(sorted(special), dtype=np.int64)

    def row(self, row: Row) -> ShownRow:
        """Return a row with its text and what is learnt of it."""
        tokens, task = row.tokens, self._task
        learnt = np.zeros(tokens.input_ids.size, np.bool_)
        tags, target = tuple[str, ...](), tuple[Span, ...]()
        if isinstance(task, Seq2SeqLm):
            target = self._spans(tokens.labels, np.ones(tokens.labels.size, np.bool_))
        elif isinstance(task, TokenClassification):
            learnt = tokens.labels != IGNORED
            tags = task.label_names()
        elif not isinstance(task, SequenceClassification):
            learnt = tokens.labels != IGNORED
            learnt[:1] = False  # nothing stands before it that it could be predicted from
        return ShownRow(
            file=row.file,
            line=row.line,
            source=row.source,
            tokens=tokens.input_ids.size,
            supervised=tokens.supervised,
            cut_tokens=tokens.cut_tokens,
            cut_turns=tokens.cut_turns,
            ends=tokens.ends,
            spans=self._spans(tokens.input_ids, learnt, tokens.labels if tags else None, tags),
            labels=_labels(task, tokens.labels),
            target=target,
        )

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        return str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def _spans(
        self,
        ids: NDArray[np.int32],
        learnt: Mask,
        labels: NDArray[Any] | None = None,
        tags: Sequence[str] = (),
    ) -> tuple[Span, ...]:
        """Return the spans of tokens; one for each token that has a tag."""
        special = np.isin(ids, self._special)
        begins = np.ones(ids.size, np.bool_)
        begins[1:] = (np.diff(learnt) != 0) | (np.diff(special) != 0)
        if labels is not None:
            begins |= learnt
        borders = [*np.flatnonzero(begins).tolist(), ids.size]
        texts = self._texts([ids[start:end].tolist() for start, end in pairwise(borders)])
        return tuple(
            Span(
                text=text,
                tokens=end - start,
                supervised=bool(learnt[start]),
                special=bool(special[start]),
                label=tags[labels[start]] if labels is not None and learnt[start] else "",
            )
            for (start, end), text in zip(pairwise(borders), texts, strict=True)
        )

    def _texts(self, runs: Sequence[list[int]]) -> list[str]:
        """Return the text of each run; put together they are the text of all tokens.

        Where a run alone reads differently (half a character, a space that a tokenizer leaves out
        at the start of a text), it ends where the text up to it agrees with the whole.
        """
        whole = self.text([token for run in runs for token in run])
        alone = list(map(self.text, runs))
        if "".join(alone) == whole:
            return alone
        so_far = accumulate(runs, initial=list[int]())
        ends = (_agreement(self.text(ids), whole) for ids in so_far)
        borders = list(accumulate(ends, max))
        borders[-1] = len(whole)
        return [whole[start:end] for start, end in pairwise(borders)]


def _agreement(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _labels(task: TaskSpec, labels: NDArray[Any]) -> tuple[str, ...]:
    """Return what is learnt of a text as a whole, in words."""
    if not isinstance(task, SequenceClassification):
        return ()
    if task.problem == "regression":
        return (f"{labels[0]:g}",)
    names = task.label_names()
    numbers = np.flatnonzero(labels) if task.problem == "multi_label" else labels
    return tuple(names[number] for number in numbers.tolist())
