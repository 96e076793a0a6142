"""Figures of classes, label sets, numbers and tags, against values worked out by hand."""

from __future__ import annotations

import pytest

from lora_cli.tasks.measures import (
    class_figures,
    label_set_figures,
    number_figures,
    overlap_figures,
    tag_figures,
)

APPROX = pytest.approx


def test_classes() -> None:
    found = class_figures([0, 0, 1, 1], [0, 1, 1, 1], ("no", "yes", "never"))
    assert found.figures == {
        "accuracy": 0.75,
        "f1_macro": APPROX((2 / 3 + 4 / 5) / 2),
        "f1_weighted": APPROX(2 / 3 / 4 + 4 / 5 * 3 / 4),
        "matthews": APPROX(1 / 3**0.5),
    }
    assert found.per_class["yes"] == {
        "precision": 1.0,
        "recall": APPROX(2 / 3),
        "f1": APPROX(0.8),
        "support": 3.0,
    }
    assert found.per_class["never"]["support"] == 0


def test_sets_of_labels_are_right_as_a_whole() -> None:
    found = label_set_figures([[1, 0], [1, 1]], [[1.0, 0.0], [0.0, 1.0]], ("a", "b"))
    assert found.figures["accuracy"] == 0.5
    assert found.figures["f1_micro"] == APPROX(0.8)
    assert found.per_class["a"]["precision"] == 0.5


def test_numbers() -> None:
    assert number_figures([1.0, 2.0, 4.0], [1.0, 3.0, 9.0]) == {
        "mean_squared_error": APPROX(26 / 3),
        "pearson": APPROX(0.9958705948858226),
        "spearman": 1.0,
    }


def test_a_correlation_that_is_not_defined_is_left_out() -> None:
    assert number_figures([1.0, 1.0], [1.0, 3.0]) == {"mean_squared_error": 2.0}
    assert number_figures([1.0], [1.0]) == {"mean_squared_error": 0.0}


def test_entities_count_as_a_whole() -> None:
    names = ("O", "B-PER", "I-PER", "B-LOC")
    found = tag_figures([[1, 2, 0], [3, 0]], [[1, 2, 0], [0, 3]], names)
    assert found.figures["f1"] == 0.5, "one name of two is right, and one of two is found"
    assert found.per_class["PER"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1.0}
    assert found.per_class["LOC"]["f1"] == 0.0


def test_tags_that_mark_no_entities_count_one_by_one() -> None:
    found = tag_figures([[0, 1], [1]], [[0, 0], [1]], ("NOUN", "VERB"))
    assert found.figures["f1_macro"] == APPROX(2 / 3)
    assert found.per_class["NOUN"]["recall"] == 0.5


@pytest.mark.parametrize(
    ("answer", "share"),
    [("the cat sat", 1.0), ("The Cat, sat!", 1.0), ("cat", 0.5), ("", 0.0), ("sat cat the", 1 / 3)],
)
def test_rouge_l_is_the_longest_common_run_of_words(answer: str, share: float) -> None:
    assert overlap_figures([answer], ["the cat sat"]) == {"rouge_l": APPROX(share)}


def test_rouge_l_knows_words_in_any_script() -> None:
    assert overlap_figures(["кот сидит"], ["Кот сидит"]) == {"rouge_l": 1.0}
