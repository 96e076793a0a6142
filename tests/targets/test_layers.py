"""Numbers of layers, folded and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.targets.layers import pattern_of, ranges, stack_of


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([3], "3"),
        ([0, 1], "0-1"),
        ([2, 0, 1, 5, 7, 8], "0-2, 5, 7-8"),
        ([4, 12, 20, 28], "4-28 by 8"),
        ([1, 3], "1, 3"),
        (range(80), "0-79"),
    ],
)
def test_numbers_as_a_reader_writes_them(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def read(text: str) -> set[int]:
    numbers: set[int] = set()
    for run in filter(None, text.split(", ")):
        ends, _, step = run.partition(" by ")
        first, _, last = ends.partition("-")
        numbers.update(range(int(first), int(last or first) + 1, int(step or 1)))
    return numbers


@given(st.sets(st.integers(0, 40)))
def test_what_is_written_reads_back(numbers: set[int]) -> None:
    assert read(ranges(numbers)) == numbers


def test_names_that_differ_by_a_number_have_one_pattern() -> None:
    assert pattern_of("model.layers.12.mlp.experts.3.w1") == "model.layers.*.mlp.experts.*.w1"
    assert pattern_of("encoder.layers.3.ffn.experts.expert_12.fc1") == (
        "encoder.layers.*.ffn.experts.expert_*.fc1"
    )
    assert pattern_of("lm_head") == "lm_head"


def test_a_stack_is_what_comes_before_the_first_number() -> None:
    assert stack_of("model.layers.12.mlp.experts.3.w1") == "model.layers"
    assert stack_of("lm_head") == ""
