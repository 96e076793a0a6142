"""The account of a file's rows does not close if one is lost."""

from __future__ import annotations

import pytest

from lora_cli.facts.dataset import DroppedRow, DroppedRows, FileFacts, SourceFacts


def source(rows: int, kept: int, dropped: int) -> SourceFacts:
    first = tuple(DroppedRow("f", line, "bad") for line in range(min(dropped, 1)))
    lost = DroppedRows(dropped, first, (("bad", dropped),))
    return SourceFacts((FileFacts("f", ""),), "messages", "", rows, kept, lost)


def test_rows_are_kept_or_dropped() -> None:
    assert source(5, 3, 2).rows == 5


@pytest.mark.parametrize("counts", [(5, 3, 1), (5, 5, 1), (0, 1, 0)])
def test_a_lost_row_is_our_own_mistake(counts: tuple[int, int, int]) -> None:
    with pytest.raises(AssertionError, match="a row was lost"):
        source(*counts)


def test_a_drop_without_a_reason_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="a drop has no reason"):
        DroppedRows(3, (), (("bad", 2),))
