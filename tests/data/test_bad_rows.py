"""The first ten rows that cannot be used, the count of the rest, and what to do about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_cli.data.bad_rows import bad_rows, row_problems
from lora_cli.errors import Where
from lora_cli.facts.dataset import DroppedRow, DroppedRows


@pytest.mark.parametrize(("count", "last"), [(10, "bad"), (11, "1 more row cannot be used")])
def test_the_count_appears_only_where_rows_are_left_out(count: int, last: str) -> None:
    problems = row_problems([(Where("f", n), "bad") for n in range(count)], "mend")
    assert problems[-1].message == last
    assert problems[-1].hint == "mend"
    assert len(problems) == count if count <= 10 else 11


def test_of_a_million_the_first_are_told_and_the_others_counted(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("")
    first = tuple(DroppedRow(str(file), line, "it is empty", 3) for line in range(1, 101))
    problems = bad_rows(DroppedRows(1_000_000, first, (("it is empty", 1_000_000),)), "error")
    assert [problem.where for problem in problems[:2]] == [
        Where(str(file), 1, 3),
        Where(str(file), 2, 3),
    ]
    assert len(problems) == 11
    assert problems[-1].message == "999,990 more rows cannot be used"
    assert sum(problem.count for problem in problems) == 1_000_000
    assert "on_bad_row: skip" in problems[-1].hint
