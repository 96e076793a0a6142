"""Labelled texts and labelled words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.formats import FORMATS, LabelledText, LabelledTokens
from tests.formats.rows import SAID, problem_of

TEXT = FORMATS["labelled_text"]
TOKENS = FORMATS["labelled_tokens"]
LABEL = SAID | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("row", "example"),
    [
        ({"text": " a ", "label": " pos"}, LabelledText(" a ", " pos")),
        ({"sentence": "a", "label": 0}, LabelledText("a", 0)),
        ({"review": "a", "class": 4.5}, LabelledText("a", 4.5)),
        ({"text": "a", "label": True}, LabelledText("a", "true")),
        ({"text": "a", "labels": ["x", 2]}, LabelledText("a", ("x", 2))),
        ({"text": "a", "labels": []}, LabelledText("a", ())),
        ({"premise": "a", "hypothesis": "b", "label": 1}, LabelledText("a", 1, "b")),
        ({"sentence1": "a", "sentence2": "b", "label": 1}, LabelledText("a", 1, "b")),
        ({"text": "a", "second_text": None, "label": 1}, LabelledText("a", 1)),
    ],
)
def test_a_labelled_text(row: dict[str, Any], example: LabelledText) -> None:
    assert TEXT.fits(row)
    assert TEXT.example(row) == example


@given(text=SAID, label=LABEL | st.lists(LABEL, max_size=3))
def test_text_and_labels_stand_as_they_are(text: str, label: Any) -> None:
    example = TEXT.example({"text": text, "label": label})
    assert isinstance(example, LabelledText)
    labels = list(example.label) if isinstance(example.label, tuple) else example.label
    assert (example.text, labels) == (text, label)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, ("column `label` holds null where a label was due: write text, a number, or a list "
               "of them")),
        ({"a": 1}, ("column `label` holds a mapping where a label was due: write text, a number, "
                   "or a list of them")),
        ([["a"]], ("column `label` holds a list where a label was due: write text, a number, or a "
                  "list of them")),
        (" ", "column `label` has an empty label: write one, or drop the row"),
        (["a", ""], "column `label` has an empty label: write one, or drop the row"),
        (float("nan"), "column `label` holds nan, which is no label"),
    ],
)  # fmt: skip
def test_a_label_that_cannot_be_used(label: Any, message: str) -> None:
    assert problem_of("labelled_text", {"text": "a", "label": label}) == message


@given(pairs=st.lists(st.tuples(SAID, SAID | st.integers()), min_size=1, max_size=5))
def test_each_word_keeps_its_tag(pairs: list[tuple[str, str | int]]) -> None:
    words, tags = map(list, zip(*pairs, strict=True))
    example = TOKENS.example({"words": words, "ner_tags": tags})
    assert isinstance(example, LabelledTokens)
    assert list(zip(example.words, example.tags, strict=True)) == pairs


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (["a", "b"], ["O"], "2 words in `tokens`, but 1 tag in `tags`: each word needs one tag"),
        ([], [], "column `tokens` must be a list that is not empty"),
        (["a"], "O", "column `tags` must be a list that is not empty"),
        (["a", 3], ["O", "O"], "word 2 is a number, not text"),
        (["a", " "], ["O", "O"], "word 2 is empty: remove it and its tag"),
        (["a"], [None], "tag 1 is null: write its name or its whole number"),
        (["a"], [True], "tag 1 is true or false: write its name or its whole number"),
        (["a"], [0.5], "tag 1 is a number: write its name or its whole number"),
        (["a"], [""], "tag 1 is empty: write `O` for a word outside all names"),
    ],
)
def test_words_that_cannot_be_used(words: Any, tags: Any, message: str) -> None:
    assert problem_of("labelled_tokens", {"tokens": words, "tags": tags}) == message


def test_the_answers_are_the_labels_as_text() -> None:
    assert TEXT.example({"text": "a", "label": ["x", 2]}).answer == "x, 2"
    assert TOKENS.example({"tokens": ["a", "b"], "tags": ["O", 1]}).answer == "O 1"
