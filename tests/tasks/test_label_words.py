"""Answers that are labels: which one is meant, and which is likeliest."""

from __future__ import annotations

import pytest

from lora_cli.tasks.label_words import generated_figures, likelihood_figures, meant_label

LABELS = ("Positive", "Negative", "Not sure", "Not")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Positive", 0),
        (" positive.\n", 0),
        ("**Negative**, since it drags", 1),
        ("Not sure at all", 2),
        ("not  sure", 2),
        ("Not: it is dull", 3),
        ("Positively great", None),
        ("It is positive", None),
        ("", None),
    ],
)
def test_an_answer_is_a_label_or_begins_with_one(answer: str, label: int | None) -> None:
    assert meant_label(answer, LABELS) == label


def test_an_answer_that_names_no_label_is_wrong_and_counted() -> None:
    found = generated_figures(
        ["Positive", "Who knows", "negative"], ["Positive", "Positive", "Negative"], LABELS[:2]
    )
    # positive: precision 1, recall 1/2; negative: both 1
    assert found == {
        "accuracy_generated": pytest.approx(2 / 3),
        "f1_macro_generated": pytest.approx((2 / 3 + 1) / 2),
        "label_named": pytest.approx(2 / 3),
    }


def test_a_long_label_is_judged_by_its_tokens_where_they_are_averaged() -> None:
    likelihoods = [[(-2.0, 1), (-3.0, 3)], [(-1.0, 1), (-6.0, 3)]]
    found = likelihood_figures(likelihoods, ["Negative", "Positive"], LABELS[:2])
    assert found["accuracy_likelihood"] == 0.5
    assert found["accuracy_likelihood_per_token"] == 1.0
    assert found["f1_macro_likelihood_per_token"] == 1.0
