"""The family of formats: names, columns by other names, and what a row lacks."""

from __future__ import annotations

import pickle
from typing import Any, get_args

import pytest

from lora_cli.formats import FORMATS, FormatName, Pair, RowProblemError, build_format
from lora_cli.formats.row_format import kind_of, text_column

PAIR = FORMATS["prompt_completion"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "column `text` holds a number, not text"),
        (None, "column `text` holds null, not text"),
        (["a"], "column `text` holds a list, not text"),
        ({"a": 1}, "column `text` holds a mapping, not text"),
        (False, "column `text` holds true or false, not text"),
        ("", "column `text` is empty"),
        (" \n\t", "column `text` is empty"),
    ],
)
def test_a_column_that_is_no_text(value: Any, message: str) -> None:
    with pytest.raises(RowProblemError) as caught:
        text_column({"text": value}, "text")
    assert str(caught.value) == message


def test_text_is_called_text() -> None:
    assert kind_of("x") == "text"


def test_every_format_can_be_named() -> None:
    assert set(get_args(FormatName)) == {"auto", "template", *FORMATS}
    assert all(FORMATS[name].name == name for name in FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_told_by_its_columns_and_reads_them_all(name: str) -> None:
    columns = [column.name for column in FORMATS[name].columns]
    assert FORMATS[name].required
    assert set(FORMATS[name].required) <= set(columns)
    for other in FORMATS.values():
        assert other.name == name or set(other.required) != set(FORMATS[name].required)


def test_the_recipe_names_the_files_columns() -> None:
    renamed = PAIR.with_columns({"prompt": "Review Text"})
    row = {"Review Text": "a", "prompt": "not this", "completion": "b"}
    assert renamed.example(row) == Pair("a", "b")
    with pytest.raises(RowProblemError, match="column `Review Text` is missing"):
        renamed.example({"prompt": "a", "completion": "b"})
    with pytest.raises(RowProblemError, match="column `Review Text` is empty"):
        renamed.example({"Review Text": "", "completion": "b"})


def test_columns_can_change_places() -> None:
    swapped = PAIR.with_columns({"prompt": "completion", "completion": "prompt"})
    assert swapped.example({"prompt": "a", "completion": "b"}) == Pair("b", "a")


def test_a_column_that_is_named_is_no_other_ones() -> None:
    renamed = PAIR.with_columns({"prompt": "completion"})
    with pytest.raises(RowProblemError, match="column `completion` is missing"):
        renamed.example({"completion": "b"})


def test_a_field_inside_a_column_is_named_with_a_dot() -> None:
    renamed = PAIR.with_columns({"prompt": "pair.q", "completion": "pair.a.b"})
    assert renamed.example({"pair": {"q": "x", "a": {"b": "y"}}}) == Pair("x", "y")
    assert renamed.example({"pair.q": "x", "pair": {"a": {"b": "y"}}}) == Pair("x", "y")
    with pytest.raises(RowProblemError, match=r"column `pair\.q` is missing"):
        renamed.example({"pair": "x"})


def test_a_formats_own_name_comes_before_others() -> None:
    row = {"prompt": "a", "input": "not this", "completion": "b", "output": "nor this"}
    assert PAIR.example(row) == Pair("a", "b")


def test_two_other_names_are_a_question() -> None:
    row = {"tokens": ["a"], "ner_tags": [0], "pos_tags": [1]}
    assert FORMATS["labelled_tokens"].fits(row)
    with pytest.raises(RowProblemError) as caught:
        FORMATS["labelled_tokens"].example(row)
    assert str(caught.value) == (
        "the columns `ner_tags` and `pos_tags` could each be the `tags` of labelled_tokens: name "
        "one with `dataset.columns`, `{tags: ner_tags}` or `{tags: pos_tags}`"
    )
    named = FORMATS["labelled_tokens"].with_columns({"tags": "pos_tags"})
    assert named.example(row).answer == "1"


@pytest.mark.parametrize("name", [*FORMATS, "template"])
def test_a_format_can_be_sent_to_another_process(name: str) -> None:
    template = {"text": "{{ text }}"} if name == "template" else {}
    made = build_format(name, {"text": "a"}, template)
    sent = pickle.loads(pickle.dumps(made))
    assert (sent.name, sent.kind, sent.renamed) == (name, made.kind, {"text": "a"})
