"""Every kind of bad file is told apart, with its line: rows are counted, broken files refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_cli.data.readers.read import RawRow, read_rows
from lora_cli.errors import PlanError
from tests.data.bad_files import BAD_FILES, BAD_ROWS, EMPTY, LINE, BadFile


def all_rows(path: Path) -> list[RawRow]:
    return list(read_rows(path))


def named(bad: BadFile) -> str:
    return f"{bad.name}: {bad.kind}"


def test_there_are_over_thirty_kinds() -> None:
    kinds = [bad.kind for bad in (*BAD_ROWS, *BAD_FILES, *EMPTY)]
    assert len(kinds) == len(set(kinds)) > 30


@pytest.mark.parametrize("bad", BAD_ROWS, ids=named)
def test_a_bad_row_is_one_with_a_reason(tmp_path: Path, bad: BadFile) -> None:
    rows = all_rows(bad.write(tmp_path))
    wrong = [row for row in rows if row.columns is None]
    assert [(row.line, row.column) for row in wrong] == [(bad.line, bad.column)]
    assert wrong[0].reason.startswith(bad.reason)
    assert len(rows) - 1 == bad.good, "the other rows are read"
    assert all(row.columns and not row.reason for row in rows if row not in wrong)
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines)), "a line names one row"


@pytest.mark.parametrize("bad", BAD_FILES, ids=named)
def test_a_file_that_cannot_be_read_to_its_end_is_refused(tmp_path: Path, bad: BadFile) -> None:
    path = bad.write(tmp_path)
    with pytest.raises(PlanError) as caught:
        all_rows(path)
    (problem,) = caught.value.problems
    assert (problem.where.line, problem.where.column) == (bad.line, bad.column)
    assert problem.where.file == str(path)
    assert problem.message.startswith(bad.reason)
    assert bad.hint in problem.hint


@pytest.mark.parametrize("bad", EMPTY, ids=named)
def test_a_file_without_rows_has_none(tmp_path: Path, bad: BadFile) -> None:
    assert all_rows(bad.write(tmp_path)) == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.parquet", "a.arrow"])
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(PlanError, match="cannot be read: No such file or directory"):
        all_rows(path)
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(PlanError, match="cannot be read: No such file or directory"):
        all_rows(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(PlanError, match="cannot be read: Is a directory"):
        all_rows(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE)
    path.chmod(0)
    with pytest.raises(PlanError, match="cannot be read: Permission denied"):
        all_rows(path)


def test_permission_is_told_as_the_system_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    for name in ("a.jsonl", "a.parquet", "a.arrow"):
        with pytest.raises(PlanError, match=r"a\.\w+: cannot be read: Permission denied"):
            all_rows(tmp_path / name)
