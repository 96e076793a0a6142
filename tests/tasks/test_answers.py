"""Scores of answers: JSON read strictly, values compared as JSON compares them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.tasks.answers import (
    expectation_problem,
    parse_mapping,
    same_value,
    score_answers,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (' \n{"a": [1, {"b": null}]}\t', {"a": [1, {"b": None}]}),
        ("{}", {}),
        ('{"a": {"b": 1}, "c": {"b": 1}}', {"a": {"b": 1}, "c": {"b": 1}}),
        ('{"ä": "\\u00e4"}', {"ä": "ä"}),
    ],
)
def test_a_json_mapping_is_read(text: str, value: dict[str, Any]) -> None:
    assert parse_mapping(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"{}"',
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": 1} and more',
        'Sure! {"a": 1}',
        '```json\n{"a": 1}\n```',
        '{"a": 1',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1, "a": 1}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": 01}',
        "{a: 1}",
        '{"a": "line\nbreak"}',
        "{" * 100_000,
        '{"a":' * 100_000,
        '{"a": ' + "1" * 5000 + "}",
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert parse_mapping(text) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        ("a", "a"),
        (None, None),
        (True, True),
        ([1, [2]], [1, [2.0]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_equal_values(one: object, other: object) -> None:
    assert same_value(one, other)
    assert same_value(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, False),
        (1, "1"),
        ("true", True),
        (None, "null"),
        (None, False),
        ("", None),
        ("a", "A"),
        ([1, 2], [2, 1]),
        ([1], [1, 1]),
        ([1], 1),
        ([True], [1]),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1, "b": None}),
        ({}, []),
    ],
)
def test_values_of_another_type_or_order_are_not_equal(one: object, other: object) -> None:
    assert not same_value(one, other)
    assert not same_value(other, one)


def test_fields_are_counted_over_all_rows() -> None:
    wanted = ['{"a": 1, "b": "x"}', '{"a": 2, "b": "y"}', '{"a": 3}']
    given_answers = ['{"b": "x", "a": 1}', '{"a": "2", "b": "y", "c": 0}', "three"]
    assert score_answers("json_fields", given_answers, wanted) == {
        "valid_json": 2 / 3,
        "field_accuracy": 3 / 5,
        "exact_match": 1 / 3,
    }


@pytest.mark.parametrize(
    "answer", ['{"a": true}', '{"a": "1"}', '{"A": 1}', '{"b": {"a": 1}}', "{}"]
)
def test_an_almost_right_field_is_wrong(answer: str) -> None:
    figures = score_answers("json_fields", [answer], ['{"a": 1}'])
    assert figures == {"valid_json": 1.0, "field_accuracy": 0.0, "exact_match": 0.0}


def test_more_fields_than_expected_are_no_exact_match() -> None:
    figures = score_answers("json_fields", ['{"a": 1, "b": 2}'], ['{"a": 1}'])
    assert figures == {"valid_json": 1.0, "field_accuracy": 1.0, "exact_match": 0.0}


def test_nested_values_are_right_as_a_whole_or_not_at_all() -> None:
    wanted = ['{"a": {"b": [1, 2]}}']
    right = score_answers("json_fields", ['{"a": {"b": [1, 2]}}'], wanted)
    wrong = score_answers("json_fields", ['{"a": {"b": [1, 3]}}'], wanted)
    assert (right["field_accuracy"], wrong["field_accuracy"]) == (1.0, 0.0)


def test_exact_match_leaves_white_space_around_aside() -> None:
    answers = [" yes\n", "Yes", "y es", ""]
    assert score_answers("exact_match", answers, ["yes", "yes", "yes", ""]) == {"exact_match": 0.5}


@pytest.mark.parametrize("metric", ["exact_match", "json_fields"])
def test_every_answer_needs_an_expectation(metric: Any) -> None:
    with pytest.raises(ValueError, match="zip"):
        score_answers(metric, ['{"a": 1}'], ['{"a": 1}', '{"a": 1}'])


@pytest.mark.parametrize("expected", ["", "no JSON", "[]", "{}", '{"a": 1, "a": 2}'])
def test_what_json_fields_cannot_be_scored_against(expected: str) -> None:
    problem = expectation_problem("json_fields", expected)
    assert problem is not None
    assert "not a JSON mapping with fields" in problem
    assert expectation_problem("exact_match", expected) is None
    assert expectation_problem("json_fields", '{"a": null}') is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON)
def test_a_value_equals_itself_and_nothing_it_is_wrapped_in(value: object) -> None:
    assert same_value(value, value)
    assert not same_value(value, [value])
    assert not same_value({"a": value}, value)
