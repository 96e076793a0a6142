"""A choice as YAML that reads back as it was meant; whole recipes are in `test_inspect_targets`."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.recipe.yaml_tree import read_tree
from lora_cli.targets.snippet import _flow

VALUES = st.recursive(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)
    | st.integers(0, 999)
    | st.booleans(),
    lambda inner: st.lists(inner, min_size=1, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_a_value_reads_back(value: Any) -> None:
    text = f"key: {_flow(value)}\n"
    assert yaml.safe_load(text) == {"key": value}
    read = read_tree(text, "recipe.yaml")
    assert (read.value, read.problems) == ({"key": value}, [])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["q_proj", "v_proj"], "[q_proj, v_proj]"),
        ({"regex": r".*\.q_proj"}, r"{regex: '.*\.q_proj'}"),
        ("../models/base", "../models/base"),
        ("package://m/x.gguf", "'package://m/x.gguf'"),
        ("no", "'no'"),
        ("N", "'N'"),
        ("...", "'...'"),
        ("1e3", "'1e3'"),
        (32.0, "32"),
        (0.05, "0.05"),
        ({"q_proj": 8}, "{q_proj: 8}"),
    ],
)
def test_values_as_a_reader_writes_them(value: Any, text: str) -> None:
    assert _flow(value) == text
