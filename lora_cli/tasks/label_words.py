"""Classification by words: an answer in text, or the likeliest of the labels, → accuracy and F1."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lora_cli.tasks.measures import choice_figures

NOT_A_WORD = re.compile(r"[\W_]+")


def meant_label(answer: str, labels: Sequence[str]) -> int | None:
    """Return the number of the label that an answer is, or begins with; None if it is none.

    Case, punctuation and white space do not count. Where one label begins with another, the longer
    one is meant.
    """
    words = _normal(answer)
    meant = [
        (len(_normal(label)), number)
        for number, label in enumerate(labels)
        if f"{words} ".startswith(f"{_normal(label)} ")
    ]
    return max(meant)[1] if meant else None


def _normal(text: str) -> str:
    return NOT_A_WORD.sub(" ", text).strip().casefold()


def generated_figures(
    answers: Sequence[str], expected: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Return accuracy and macro F1 of generated answers, and the share that names a label."""
    chosen = [meant_label(answer, labels) for answer in answers]
    named = sum(each is not None for each in chosen) / len(chosen)
    return {**_figures(chosen, expected, labels, "generated"), "label_named": named}


def likelihood_figures(
    likelihoods: Sequence[Sequence[tuple[float, int]]],
    expected: Sequence[str],
    labels: Sequence[str],
) -> dict[str, float]:
    """Return the figures of the likeliest label of each row.

    `likelihoods` holds for each row and label the log-likelihood of the label's tokens given the
    prompt, and how many they are. The sum is how likely the model is to answer so; the mean over
    tokens does not count long labels less likely for their length.
    """
    by_sum = [_highest([value for value, _ in row]) for row in likelihoods]
    by_mean = [_highest([value / count for value, count in row]) for row in likelihoods]
    return {
        **_figures(by_sum, expected, labels, "likelihood"),
        **_figures(by_mean, expected, labels, "likelihood_per_token"),
    }


def _highest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _figures(
    chosen: Sequence[int | None], expected: Sequence[str], labels: Sequence[str], how: str
) -> dict[str, float]:
    references = [meant_label(answer, labels) for answer in expected]
    assert None not in references, "expectation_problem was asked before"
    predictions = [-1 if each is None else each for each in chosen]
    found = choice_figures(predictions, [each or 0 for each in references], len(labels))
    return {f"{name}_{how}": value for name, value in found.items()}
