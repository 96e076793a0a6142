"""However many rows are dropped: all are counted, by reason; only the first are told."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.account import NAMED, OTHER, REASONS, RowAccount, dropped_rows
from lora_cli.data.encode_rows import Dropped

FILES = [Path("a.jsonl"), Path("b.jsonl")]


def account_of(reasons: list[str]) -> RowAccount:
    account = RowAccount(rows=len(reasons))
    for line, reason in enumerate(reasons, 1):
        account.drop(Dropped(line % 2, line, 0, reason))
    return account


@settings(max_examples=50, deadline=None)  # many words are drawn for each
@given(
    reasons=st.lists(
        st.sampled_from("abcdefghijklmnopqrstuvwxyz") | st.text(max_size=3), max_size=300
    )
)
def test_every_drop_is_counted_and_the_account_is_bounded(reasons: list[str]) -> None:
    written = json.loads(json.dumps(account_of(reasons).as_json()))
    dropped = dropped_rows([written["bad"]], FILES)
    assert dropped.count == len(reasons) == sum(count for _, count in dropped.by_reason)
    assert len(dropped.by_reason) <= REASONS + 1
    assert [row.reason for row in dropped.first] == reasons[:NAMED]
    assert [row.file for row in dropped.first] == [
        str(FILES[line % 2]) for line in range(1, len(dropped.first) + 1)
    ]


def test_figures_within_a_reason_do_not_make_it_another() -> None:
    reasons = [f"the row has {tokens:,} tokens" for tokens in (9, 68, 1234)] + ["it is empty"]
    dropped = dropped_rows([account_of(reasons).as_json()["bad"]], FILES)
    assert dropped.by_reason == (("the row has … tokens", 3), ("it is empty", 1))


def test_rare_reasons_beyond_the_first_are_counted_together() -> None:
    reasons = ["x" * length for length in range(1, REASONS + 4)] + ["x"] * 9
    by_reason = dict(dropped_rows([account_of(reasons).as_json()["bad"]], FILES).by_reason)
    assert len(by_reason) == REASONS + 1
    assert (by_reason[OTHER], by_reason["x"]) == (3, 10)


def test_rows_that_are_too_long_are_told_after_the_bad_ones_and_counted_with_them() -> None:
    account = RowAccount(rows=5, kept=1)
    for line, too_long in enumerate([True, False, True, False], 1):
        account.drop(Dropped(0, line, 0, OTHER if line < 3 else "b", too_long))
    written = json.loads(json.dumps(account.as_json()))
    dropped = dropped_rows([written["bad"], written["too_long"]], FILES)
    assert [row.line for row in dropped.first] == [2, 4, 1, 3]
    assert dict(dropped.by_reason) == {OTHER: 2, "b": 2}
    assert dropped.count == 4
