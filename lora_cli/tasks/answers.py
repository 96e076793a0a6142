"""Scores of generated answers against expected ones, as plain text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

AnswerMetric = Literal["exact_match", "json_fields"]


def score_answers(
    metric: AnswerMetric, answers: Sequence[str], expected: Sequence[str]
) -> dict[str, float]:
    """Return the metric's figures, each a share between 0 and 1.

    `exact_match`: answers equal to the expected text, white space around them aside.
    `json_fields`: `valid_json`, answers that are one JSON mapping as a whole; `field_accuracy`,
    fields of the expected mapping that the answer has with an equal value, over all fields of all
    rows (an answer that is no JSON has none right); `exact_match` of whole mappings.
    """
    if metric == "exact_match":
        right = sum(a.strip() == e.strip() for a, e in zip(answers, expected, strict=True))
        return {"exact_match": right / len(expected)}
    return _json_fields(answers, expected)


def _json_fields(answers: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    given = [parse_mapping(answer) for answer in answers]
    wanted = [parse_mapping(text) for text in expected]
    fields = right = equal = 0
    for answer, want in zip(given, wanted, strict=True):
        assert want is not None, "the expected answers are checked when the plan is made"
        fields += len(want)
        right += sum(
            answer is not None and key in answer and answer[key] == value
            for key, value in want.items()
        )
        equal += answer == want
    return {
        "valid_json": sum(answer is not None for answer in given) / len(given),
        "field_accuracy": right / fields,
        "exact_match": equal / len(given),
    }


def parse_mapping(text: str) -> dict[str, Any] | None:
    """Return the text as a JSON mapping, or None if it is anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value else None
