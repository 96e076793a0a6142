"""Counts and reasons, as every message words them."""

from __future__ import annotations

import pytest

from lora_cli.words import LONGEST_REASON, counted, figure, reason_of


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (1200, "token", "1,200 tokens"),
        (1.0, "epoch", "1 epoch"),
        (0.25, "epoch", "0.25 epochs"),
        (1, "warm-up step", "1 warm-up step"),
    ],
)
def test_a_count_agrees_with_its_noun(count: float, noun: str, text: str) -> None:
    assert counted(count, noun) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such thing"), "no such thing"),
        (ValueError("one of:\n(1) this,\n(2) that"), "one of: (1) this, (2) that"),
        (ValueError("field 'a':\n    TypeError: is text"), "field 'a': TypeError: is text"),
        (ValueError("unknown type\n\nYou can update it with …"), "unknown type"),
        (KeyError("gelu2"), "KeyError: 'gelu2'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (ValueError("\n"), "ValueError"),
        (ValueError("x" * 999), "x" * LONGEST_REASON + " …"),
    ],
)
def test_a_reason_is_one_line_that_is_not_cut_in_its_middle(error: Exception, text: str) -> None:
    assert reason_of(error) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("token_accuracy", 0.905, "token accuracy 90.5%"),
        ("perplexity", 1.65, "perplexity 1.650"),
        ("matthews", -0.25, "matthews -0.250"),
    ],
)
def test_a_figure_is_a_share_or_a_number(name: str, value: float, text: str) -> None:
    assert figure(name, value) == text
