"""What an error looks like on the terminal."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from lora_cli import cli
from lora_cli.console.errors import MOST_SHOWN, error_as_json, show_error, show_unexpected
from lora_cli.errors import PlanError, Problem, RecipeError, Where


def shown(capsys: pytest.CaptureFixture[str], *problems: Problem) -> list[str]:
    show_error(RecipeError.from_problems(problems))
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def written(folder: Path, content: str) -> str:
    path = folder / "recipe.yaml"
    path.write_bytes(content.encode())
    return str(path)


def test_one_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "model: m\nsede: 1\n")
    problem = Problem(Where(file, 2, 3, "sede"), "unknown key `sede`", "did you mean `seed`?")
    assert shown(capsys, problem) == [
        "the recipe is not valid",
        f"{file}:2:3: unknown key `sede`",
        "    2 │ sede: 1",
        "      │   ^",
        "    → did you mean `seed`?",
    ]


def test_the_number_of_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem(Where(written(tmp_path, "model: m\n"), 1, 1), "is wrong")
    lines = shown(capsys, *[problem] * (MOST_SHOWN + 7))
    assert lines[0] == f"the recipe is not valid: {MOST_SHOWN + 7} problems"
    assert lines[-1] == "… and 7 more"
    assert len([line for line in lines if "is wrong" in line]) == MOST_SHOWN


def test_a_problem_that_stands_for_several_counts_as_many(
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = Problem(Where("rows.jsonl"), "490 more rows cannot be used", count=490)
    lines = shown(capsys, *[Problem(Where("rows.jsonl"), "is bad")] * 10, many)
    assert lines[0] == "the recipe is not valid: 500 problems"
    assert lines[-1] == "rows.jsonl: 490 more rows cannot be used"
    lines = shown(capsys, *[Problem(Where("x"), "is wrong")] * (MOST_SHOWN + 1), many)
    assert lines[0] == f"the recipe is not valid: {MOST_SHOWN + 491} problems"
    assert lines[-1] == "… and 491 more"


def test_a_program_reads_every_problem() -> None:
    flag = Problem(Where("--set seed=x"), "is wrong")
    key = Problem(Where("recipe.yaml", 2, 3, "sede"), "unknown key `sede`", "did you mean `seed`?")
    told = json.loads(error_as_json(RecipeError.from_problems([flag, key]), 2))
    assert (told["error"], told["exit_code"]) == ("the recipe is not valid", 2)
    assert told["problems"][0]["file"] == "--set seed=x"
    assert told["problems"][1] == {
        "file": "recipe.yaml",
        "line": 2,
        "column": 3,
        "key": "sede",
        "message": "unknown key `sede`",
        "hint": "did you mean `seed`?",
        "count": 1,
    }


def test_json_is_printed_of_errors_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = written(tmp_path, "sede: 1\n")
    monkeypatch.setattr(sys, "argv", ["loracli", "plan", recipe, "--json"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    captured = capsys.readouterr()
    assert json.loads(captured.out)["problems"][0]["line"] == 1
    assert "unknown key `sede`" in captured.err


def test_a_problem_without_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(PlanError("no room for this", hint="take less"))
    expected = "the recipe cannot be planned\nno room for this\n    → take less\n"
    assert capsys.readouterr().err == expected


def test_a_problem_with_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, Problem(Where("--set seed=x"), "`seed` must be a whole number"))
    assert lines[1:] == ["--set seed=x: `seed` must be a whole number"]


@pytest.mark.parametrize(
    ("content", "column", "line", "mark"),
    [
        ("adapter: {名前: 1, rank: 0}\n", 17, "adapter: {名前: 1, rank: 0}", " " * 18 + "^"),
        ("\tseed: 1\n", 1, "⇥seed: 1", "^"),
        ("seed:\u00a01\r\n", 6, "seed:·1", "     ^"),
        ("\ufeffseed: 1\n", 7, "seed: 1", "      ^"),
        ("a: \u202e1\n", 4, "a: ·1", "   ^"),
    ],
)
def test_the_mark_stands_under_its_column(
    content: str,
    column: int,
    line: str,
    mark: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, Problem(Where(written(tmp_path, content), 1, column), "is wrong"))
    assert lines[2:] == [f"    1 │ {line}", f"      │ {mark}"]


@pytest.mark.parametrize("column", [1, 80, 100, 101, 300, 5000, 9994])
def test_a_long_line_is_shown_around_its_column(
    column: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ("x" * (column - 1) + "!").ljust(9999, "x")
    *_, line, mark = shown(capsys, Problem(Where(written(tmp_path, text), 1, column), "is wrong"))
    assert len(line) <= 110
    assert line[mark.index("^")] == "!"


@pytest.mark.parametrize(
    "where",
    [Where("missing.yaml", 3, 1), Where(".", 3, 1), Where("a\0b", 3, 1), Where("/dev/null", 1, 1)],
)
def test_a_line_that_cannot_be_shown_is_left_out(
    where: Where, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(shown(capsys, Problem(where, "is wrong", "mend it"))) == 3


@pytest.mark.parametrize("content", ["", "one\n", "\x00\xff\n" * 3])
def test_a_line_that_is_not_there(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content.encode("latin-1"))
    assert len(shown(capsys, Problem(Where(str(path), 3, 1), "is wrong"))) == 2


def test_a_pipe_is_not_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it would wait for a writer forever
    assert len(shown(capsys, Problem(Where(str(pipe), 1, 1), "is wrong"))) == 2


def test_words_in_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    (_, line, hint) = shown(capsys, Problem(Where("x"), "[bold]is[/bold] :smile:", "[red]a[/]"))
    assert line == "x: [bold]is[/bold] :smile:"
    assert hint == "    → [red]a[/]"


def test_long_messages_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, Problem(Where("x"), "word " * 100 + "end"))[1].endswith("word end")


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.ENOSPC, 1, "/runs/x: cannot be written: No space left on device"),
        (errno.EROFS, 1, "/runs/x: cannot be written: Read-only file system"),
        (errno.EPERM, 3, "this is a defect of loracli"),
    ],
)
def test_what_the_disk_refuses_is_no_defect(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    code: int,
    said: str,
) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number), "/runs/x")

    monkeypatch.setattr(cli, "app", refuse)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert said in capsys.readouterr().err


def test_an_unforeseen_error_leaves_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    show_unexpected(raised(ZeroDivisionError("by zero")))
    (log,) = tmp_path.glob("loracli-*.log")
    errors = capsys.readouterr().err
    assert "unexpected error" in errors
    assert "ZeroDivisionError: by zero" in errors
    assert str(log) in errors
    assert "Traceback" not in errors
    assert "Traceback" in log.read_text("utf-8")


def test_an_unforeseen_error_without_room_for_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    show_unexpected(raised(ZeroDivisionError("by zero")))
    assert "Traceback" in capsys.readouterr().err


def raised(error: Exception) -> Exception:
    """Return an error with a traceback, as it arrives at the boundary."""
    try:
        raise error
    except type(error) as caught:
        return caught
