"""Scores of generated answers against expected ones, as plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lora_cli.tasks.label_words import generated_figures, meant_label
from lora_cli.tasks.measures import overlap_figures

AnswerMetric = Literal["exact_match", "json_fields", "rouge_l", "label_words"]
PACKAGES: Mapping[AnswerMetric, tuple[str, str]] = {
    "rouge_l": ("rouge_score", "rouge-score"),
    "label_words": ("sklearn", "scikit-learn"),
}
"""What a metric needs beside loracli's own: the import's name, and what pip calls it."""


def score_answers(
    metric: AnswerMetric,
    answers: Sequence[str],
    expected: Sequence[str],
    labels: Sequence[str] = (),
) -> dict[str, float]:
    """Return the metric's figures, each a share between 0 and 1.

    `exact_match`: answers equal to the expected text, white space around them aside.
    `json_fields`: `valid_json`, answers that are one JSON mapping as a whole; `field_accuracy`,
    fields of the expected mapping that the answer has with an equal value, over all fields of all
    rows (an answer that is no JSON has none right); `exact_match` of whole mappings.
    `rouge_l`: the longest common run of words, beside `exact_match`.
    `label_words`: accuracy and macro F1 of the label that an answer begins with, among `labels`.
    """
    if metric == "label_words":
        return generated_figures(answers, expected, labels)
    if metric == "json_fields":
        return _json_fields(answers, expected)
    right = sum(a.strip() == e.strip() for a, e in zip(answers, expected, strict=True))
    exact = {"exact_match": right / len(expected)}
    return exact if metric == "exact_match" else {**overlap_figures(answers, expected), **exact}


def expectation_problem(
    metric: AnswerMetric, expected: str, labels: Sequence[str] = ()
) -> str | None:
    """Return why answers cannot be scored against `expected`, or None if they can."""
    if metric == "json_fields" and not parse_mapping(expected):
        return "the expected answer is not a JSON mapping with fields, as `json_fields` needs"
    if metric == "label_words" and labels and meant_label(expected, labels) is None:
        return f"the expected answer is none of the labels {', '.join(labels)}"
    return None


def _json_fields(answers: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    given = [parse_mapping(answer) for answer in answers]
    fields = right = equal = 0
    for answer, text in zip(given, expected, strict=True):
        want = parse_mapping(text)
        assert want, "expectation_problem was asked before"
        fields += len(want)
        right += sum(
            answer is not None and key in answer and same_value(answer[key], value)
            for key, value in want.items()
        )
        equal += answer is not None and same_value(answer, want)
    return {
        "valid_json": sum(answer is not None for answer in given) / len(given),
        "field_accuracy": right / fields,
        "exact_match": equal / len(given),
    }


def parse_mapping(text: str) -> dict[str, Any] | None:
    """Return the text as a JSON mapping, or None if it is anything else.

    Stricter than Python's reader: no NaN or Infinity, and no key twice, where one would be lost.
    """
    try:
        value = json.loads(text, object_pairs_hook=_mapping, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key stands twice")
    return mapping


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def same_value(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal as JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
