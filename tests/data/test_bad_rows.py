"""The first ten rows that cannot be used, the count of the rest, and what to do about them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Literal

import pytest

from lora_cli.data.bad_rows import bad_rows, row_problems
from lora_cli.data.source import RowSource, load_source
from lora_cli.errors import PlanError, Where
from lora_cli.facts.dataset import DroppedRow, DroppedRows
from tests.helpers.letters import Letters


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


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_a_value_over_several_lines_is_one_problem(
    tmp_path: Path, on_bad_row: Literal["error", "skip"]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "1 + 1 =", "completion": "2"}, indent=2))
    with pytest.raises(PlanError) as caught:
        load_source(RowSource((file,), on_bad_row=on_bad_row), Letters())
    (problem,) = caught.value.problems
    assert problem.where == Where(str(file), 1)
    assert problem.message == "one JSON value over several lines"
    assert problem.hint == "call it .json, or write one row a line"
    rows, _ = load_source(RowSource((file.rename(tmp_path / "rows.json"),)), Letters())
    assert len(rows.store) == 1


def test_quotes_that_tsv_does_not_read_are_told_once(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    with file.open("w", newline="") as written:
        rows = [["prompt", "completion"], ["a\tb\tc", "0"], ["d\ne", "1"], ["f", "2"]]
        csv.writer(written, delimiter="\t").writerows(rows)
    with pytest.raises(PlanError) as caught:
        load_source(RowSource((file,)), Letters())
    hints = [problem.hint for problem in caught.value.problems if problem.hint]
    assert len(hints) == 1
    assert "a quote is text in TSV" in hints[0]
    rows, _ = load_source(RowSource((file.rename(tmp_path / "rows.csv"),)), Letters())
    assert len(rows.store) == 3


def test_several_values_over_several_lines_are_no_document(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text((json.dumps({"prompt": "1 =", "completion": "1"}, indent=2) + "\n") * 2)
    with pytest.raises(PlanError) as caught:
        load_source(RowSource((file,)), Letters())
    (problem,) = caught.value.problems
    assert problem.message == "one JSON value over several lines"
    assert problem.hint == "write a list, or write one row a line"
