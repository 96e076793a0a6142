"""Texts, or pairs of texts, and their labels → tokens and the labels' numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.facts.tokenizer import tokenizer_sha256
from lora_cli.files import sha256_of_text
from lora_cli.formats import Example, LabelledText, RowProblemError
from lora_cli.tasks.labels import label_number
from lora_cli.tasks.sequence_classification import SequenceClassification

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

RULES = 1
"""Raised whenever this file would give other tokens or labels for the same example."""


class SequenceClassificationEncoder:
    """Tokens as the tokenizer writes one text or two; labels as numbers.

    `labels` of a row: (1,) int32 for a label, (labels,) float32 of 0 and 1 for several, (1,)
    float32 for a number. `prompt_tokens` are those before a second text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, task: SequenceClassification, *, max_length: int
    ) -> None:
        self._tokenizer: Any = tokenizer
        self._task = task
        self._max_length = max_length
        settings = (RULES, tokenizer_sha256(tokenizer), task.model_dump(), max_length)
        self.fingerprint = sha256_of_text(repr(settings))

    def encode(self, example: Example, _system_prompt: str | None = None) -> TokenizedRow:
        """Return the example's tokens, cut at the longest length allowed, and its labels.

        Raises:
            RowProblemError: its label is none that the task knows, or there is no text.
        """
        assert isinstance(example, LabelledText), "other kinds are of other tasks"
        labels = self._labels(example)
        whole = self._read(example, cut=False)["input_ids"]
        if not whole:
            raise RowProblemError("the text becomes no token")
        read = self._read(example, cut=True)
        ids = np.array(read["input_ids"], dtype=np.int32)
        return TokenizedRow(
            input_ids=ids,
            labels=labels,
            prompt_tokens=_first_text(read, ids.size) if example.second_text else ids.size,
            cut_tokens=len(whole) - ids.size,
            ends=False,
            supervised=labels.size,
        )

    def _read(self, example: LabelledText, *, cut: bool) -> Any:
        texts = [example.text, *([example.second_text] if example.second_text else [])]
        limit = {"truncation": True, "max_length": self._max_length} if cut else {}
        return self._tokenizer(*texts, verbose=False, **limit)

    def _labels(self, example: LabelledText) -> NDArray[Any]:
        label = example.label
        if self._task.problem == "multi_label":
            several = label if isinstance(label, tuple) else (label,)
            marked = np.zeros(len(self._task.label_names()), dtype=np.float32)
            marked[[self._number(each) for each in several]] = 1.0
            return marked
        check_one_label(example)
        if self._task.problem == "regression":
            return np.array([_quantity(label)], dtype=np.float32)
        return np.array([self._number(label)], dtype=np.int32)

    def _number(self, label: object) -> int:
        names = self._task.label_names()
        number = label_number(label, names)
        if number is None:
            raise RowProblemError(f"the label `{label}` is none of {', '.join(names)}")
        return number


def check_one_label(example: LabelledText) -> None:
    """Raise if a row has a list of labels, which only multi-label rows have.

    Raises:
        RowProblemError: with how many there are.
    """
    if isinstance(example.label, tuple):
        message = f"the row has a list of {len(example.label)} labels"
        raise RowProblemError(f"{message}: with `task.problem: multi_label` it can have them")


def _quantity(label: object) -> float:
    try:
        value = float(label)  # type: ignore[arg-type]
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RowProblemError(f"`{label}` is no number, which regression learns")
    return value


def _first_text(read: Any, length: int) -> int:
    """Return how many tokens belong to the first text; all, where the model does not tell."""
    types = list(read.get("token_type_ids") or [0] * length)
    first = types.index(1) if 1 in types else length
    if types != [0] * first + [1] * (length - first):
        raise RowProblemError("the tokenizer marks the two texts in a way that is not known here")
    return first
