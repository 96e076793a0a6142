"""Labels by name and by number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.tasks.labels import label_config, label_number, sorted_labels


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["pos", "neg", "pos"], ("neg", "pos")),
        ([10, 9, 0], ("0", "9", "10")),
        (["b", 2, "1", "a"], ("1", "2", "a", "b")),
        (["O", "B-PER", "I-PER"], ("B-PER", "I-PER", "O")),
    ],
)
def test_labels_are_sorted_numbers_before_words(
    labels: list[object], names: tuple[str, ...]
) -> None:
    assert sorted_labels(labels) == names


@pytest.mark.parametrize(
    ("label", "names", "number"),
    [
        ("pos", ("neg", "pos"), 1),
        (1, ("neg", "pos"), 1),
        ("0", ("neg", "pos"), 0),
        (2, ("neg", "pos"), None),
        (-1, ("neg", "pos"), None),
        ("Pos", ("neg", "pos"), None),
        (1, ("1", "2"), 0),
        (0, ("1", "2"), None),
        (0.0, ("neg", "pos"), None),
    ],
)
def test_a_row_holds_a_name_or_a_number(
    label: object, names: tuple[str, ...], number: int | None
) -> None:
    assert label_number(label, names) == number


@given(st.lists(st.one_of(st.integers(0, 50), st.text(min_size=1)), min_size=1))
def test_each_label_that_was_found_has_its_own_number(labels: list[object]) -> None:
    names = sorted_labels(labels)
    assert {label_number(label, names) for label in labels} == set(range(len(names)))


def test_a_config_names_labels_both_ways() -> None:
    assert label_config(("no", "yes")) == {
        "num_labels": 2,
        "id2label": {0: "no", 1: "yes"},
        "label2id": {"no": 0, "yes": 1},
    }
