"""Rows are looked for from the recipe's folder; a wrong name gets a right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_cli.errors import PlanError, Where
from lora_cli.plan.paths import find_rows, row_sources
from lora_cli.recipe.load import LoadedRecipe, load_recipe

HERE = Where("recipe.yaml", 3, 5, "dataset.path")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("rows.jsonl", "data/train.jsonl", "data/test.jsonl", "data/notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def loaded(folder: Path, text: str) -> LoadedRecipe:
    path = folder / "my-recipe.yaml"
    path.write_text(f"model: owner/name\nadapter: lora\n{text}\n")
    return load_recipe(path)


def problem_of(name: str, folder: Path, split: str | None = None) -> tuple[str, str]:
    with pytest.raises(PlanError) as caught:
        find_rows(name, split, folder, HERE)
    (problem,) = caught.value.problems
    assert problem.where == HERE
    return problem.message, problem.hint


@pytest.mark.parametrize(
    ("name", "split", "found"),
    [
        ("rows.jsonl", None, "rows.jsonl"),
        ("./data/../rows.jsonl", None, "rows.jsonl"),
        ("data", None, "data/train.jsonl"),
        ("data", "test", "data/test.jsonl"),
        ("data/test.jsonl", None, "data/test.jsonl"),
    ],
)
def test_a_file_or_a_folder_with_a_split(
    folder: Path, name: str, split: str | None, found: str
) -> None:
    assert find_rows(name, split, folder, HERE) == folder / found
    assert find_rows(str(folder / name), split, Path("/"), HERE) == folder / found


def test_a_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert find_rows("~/rows.jsonl", None, Path("/"), HERE) == folder / "rows.jsonl"


def test_a_misspelt_name(folder: Path) -> None:
    message, hint = problem_of("row.jsonl", folder)
    assert message == f"there is no file {folder}/row.jsonl"
    assert hint == "did you mean `rows.jsonl`?"


def test_a_name_like_no_other(folder: Path) -> None:
    assert problem_of("zzz", folder)[1] == "paths are relative to the recipe's folder"


def test_a_folder_that_is_not_there(folder: Path) -> None:
    hint = problem_of("nowhere/rows.jsonl", folder)[1]
    assert hint == f"there is no folder {folder}/nowhere either; paths are relative to the recipe"


@pytest.mark.parametrize(
    "name", ["https://host/rows.jsonl", "s3://bucket/rows", "hf://datasets/a/b"]
)
def test_an_address_is_no_file(folder: Path, name: str) -> None:
    message, hint = problem_of(name, folder)
    assert message == f"`{name}` is an address: this version reads local JSONL files"
    assert hint == "download it, and name the file"


@pytest.mark.parametrize("split", [None, "train"])
def test_a_data_set_of_the_hub_is_downloaded_first(folder: Path, split: str | None) -> None:
    message, hint = problem_of("tatsu-lab/alpaca", folder, split)
    assert message == f"there is no file {folder}/tatsu-lab/alpaca"
    assert hint.endswith(
        "; a data set of the hub is downloaded first, with "
        "`hf download --repo-type dataset tatsu-lab/alpaca`"
    )


@pytest.mark.parametrize(
    "name", ["nowhere/rows.jsonl", "./nowhere/rows", "no/where/rows", "/no/rows"]
)
def test_a_local_name_is_not_taken_for_one_of_the_hub(folder: Path, name: str) -> None:
    assert "hub" not in problem_of(name, folder)[1]


def test_a_split_that_is_not_there(folder: Path) -> None:
    message, hint = problem_of("data", folder, "dev")
    assert message == "`data` holds no dev.jsonl"
    assert hint == "splits it has: test, train; name one with `split`"


def test_a_folder_without_rows(folder: Path) -> None:
    (folder / "empty").mkdir()
    message, hint = problem_of("empty", folder)
    assert message == "`empty` holds no train.jsonl"
    assert hint.startswith("splits it has: none")


def test_a_split_of_a_file(folder: Path) -> None:
    (folder / "rows.ndjson").touch()
    message, hint = problem_of("rows.ndjson", folder, "test")
    assert message == "`rows.ndjson` is a file: it has no split `test`"
    assert hint == "remove `split`, or name the folder"


def test_a_file_of_another_kind(folder: Path) -> None:
    message, hint = problem_of("data/notes.txt", folder)
    assert message == "`notes.txt` is not JSONL: this version reads one JSON mapping a line"
    assert hint == "convert it to .jsonl"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 5000, "File name too long"), ("~no-such-user/rows", "Could not determine home")],
)
def test_a_name_that_no_system_takes(folder: Path, name: str, reason: str) -> None:
    message, _ = problem_of(name, folder)
    assert message.startswith(f"`{name[:200]}` cannot be opened: {reason}")


def test_the_sources_of_a_recipe(folder: Path) -> None:
    text = (
        "dataset:\n  - rows.jsonl\n"
        "  - {path: data, split: test, format: messages, max_rows: 2, system_prompt: Be.}\n"
        "evaluation: {path: data/train.jsonl}"
    )
    sources = row_sources(loaded(folder, text))
    first, second = sources.train
    assert (first.file, first.format, first.max_rows) == (folder / "rows.jsonl", "auto", None)
    assert (second.file, second.format) == (folder / "data/test.jsonl", "messages")
    assert (second.max_rows, second.system_prompt, second.on_bad_row) == (2, "Be.", "error")
    assert sources.evaluation is not None
    assert sources.evaluation.file == folder / "data/train.jsonl"


def test_an_evaluation_file_is_read_as_the_training_rows_are_but_whole(folder: Path) -> None:
    text = (
        "dataset: {path: data, split: test, format: messages, max_rows: 2, system_prompt: Be., "
        "on_bad_row: skip}\nevaluation: {path: rows.jsonl}"
    )
    evaluation = row_sources(loaded(folder, text)).evaluation
    assert evaluation is not None
    assert (evaluation.file, evaluation.max_rows) == (folder / "rows.jsonl", None)
    assert (evaluation.format, evaluation.system_prompt) == ("messages", "Be.")
    assert evaluation.on_bad_row == "skip"


def test_without_an_evaluation_file_there_is_none(folder: Path) -> None:
    assert row_sources(loaded(folder, "dataset: rows.jsonl")).evaluation is None
    split = row_sources(loaded(folder, "dataset: rows.jsonl\nevaluation: 0.1"))
    assert split.evaluation is None


def test_every_missing_file_is_told(folder: Path) -> None:
    text = "dataset: [a.jsonl, rows.jsonl, b.jsonl]\nevaluation: {path: c.jsonl}"
    with pytest.raises(PlanError) as caught:
        row_sources(loaded(folder, text))
    where = [(p.where.key, p.where.line, p.where.column) for p in caught.value.problems]
    assert where == [
        ("dataset[0].path", 3, 11),
        ("dataset[2].path", 3, 32),
        ("evaluation.path", 4, 20),
    ]
