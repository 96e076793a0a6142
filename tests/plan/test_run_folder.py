"""Where a run is written, and where none can be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_cli.errors import PlanError
from lora_cli.plan.run_folder import check_run_folder, earlier_run, run_folder
from lora_cli.recipe.load import LoadedRecipe, load_recipe


def loaded(folder: Path, text: str = "") -> LoadedRecipe:
    path = folder / "my-recipe.yaml"
    path.write_text(f"model: owner/name\nadapter: lora\ndataset: rows.jsonl\n{text}\n")
    return load_recipe(path)


def refusal(folder: Path) -> str:
    with pytest.raises(PlanError) as caught:
        check_run_folder(folder)
    (problem,) = caught.value.problems
    assert problem.hint == "name another output.dir"
    return problem.message


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("", "runs/my-recipe"),
        ("output: {dir: out/x}", "out/x"),
        ("output: ~/x", "home/x"),
        ("output: ../x", "../x"),
    ],
)
def test_the_run_directory_is_found_from_where_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, found: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(work / "home"))
    assert run_folder(loaded(tmp_path, output)) == work / found
    assert list(work.iterdir()) == [], "looking for it makes nothing"


def test_a_home_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="`~no-such-user/run` is no folder: Could not determine"):
        run_folder(loaded(tmp_path, "output: {dir: ~no-such-user/run}"))


def test_an_environment_variable_is_not_taken_for_a_name(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="names an environment variable, which is not put in"):
        run_folder(loaded(tmp_path, "output: $HOME/runs"))


def test_a_finished_run_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "plan.json").touch()
    (tmp_path / "result.json").touch()
    problem = earlier_run(tmp_path)
    assert problem is not None
    assert problem.message == "holds a finished run already"
    assert "--resume" not in problem.hint


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    check_run_folder(tmp_path)
    assert earlier_run(tmp_path) is None


def test_an_earlier_run_is_no_obstacle_but_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan.json").touch()
    check_run_folder(tmp_path)
    assert str(earlier_run(tmp_path)) == (
        f"{tmp_path}: holds a run already (--resume goes on with it, --overwrite replaces it; or "
        "name another output.dir)"
    )


@pytest.mark.parametrize("below", ["", "run", "deep/run"])
def test_a_file_stands_in_the_way(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.touch()
    folder = file / below
    assert refusal(folder) == f"{folder} cannot be a run directory: {file} is a file"


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert refusal(tmp_path).endswith("it is not empty, and holds no run of loracli")


@pytest.mark.parametrize("below", ["", "run", "deep/run"])
def test_a_folder_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path)
    assert refusal(tmp_path / below).endswith(f"nothing may be written into {tmp_path}")


def test_a_name_that_no_system_takes(tmp_path: Path) -> None:
    assert refusal(tmp_path / ("a" * 5000)).endswith("File name too long")
