"""`loracli plan` on every bad recipe: exit code 2, the place, no traceback, at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.recipe.bad_recipes import FOLDER, MADE, bad_files, expectations, write_made

HEAVY = {"torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes"}
MOST_SECONDS = 1.0
"""CPU time of one bad recipe, start-up not counted."""


class Runs(NamedTuple):
    by_path: dict[Path, dict[str, Any]]
    modules: set[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Runs:
    """The command line on every bad recipe, all in one interpreter of their own."""
    paths = [*bad_files(), *write_made(tmp_path_factory.mktemp("bad"))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.driver"],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        encoding="utf-8",
        cwd=repository,
        check=True,
    )
    *lines, modules = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(paths)
    return Runs({Path(line["path"]): line for line in lines}, set(modules))


def test_each_exits_with_2(runs: Runs) -> None:
    assert {path.name: run["code"] for path, run in runs.by_path.items() if run["code"] != 2} == {}


def test_none_shows_a_traceback(runs: Runs) -> None:
    shown = [path.name for path, run in runs.by_path.items() if "Traceback" in run["errors"]]
    assert shown == []


def test_each_shows_every_place(runs: Runs) -> None:
    for path in bad_files():
        errors = runs.by_path[path]["errors"]
        for expected in expectations(path):
            assert f"{path}:{expected.line}:{expected.column}: " in errors


def test_each_that_was_made_shows_its_place(runs: Runs) -> None:
    positions = {made.name: made.position for made in MADE}
    made_runs = {path: run for path, run in runs.by_path.items() if path.parent != FOLDER}
    assert len(made_runs) > len(positions)
    for path, run in made_runs.items():
        assert f"{path}{positions.get(path.stem, ':')}" in run["errors"]


def test_none_takes_longer_than_it_should(runs: Runs) -> None:
    slow = {path.name: run["seconds"] for path, run in runs.by_path.items()}
    assert {name: took for name, took in slow.items() if took > MOST_SECONDS} == {}


def test_none_imports_anything_heavy(runs: Runs) -> None:
    assert "lora_cli.recipe.load" in runs.modules
    assert runs.modules & HEAVY == set()


@pytest.mark.parametrize("name", ["names_of_axolotl", "crlf", "tag_python", "quote_unclosed"])
def test_the_real_command_line(name: str, repository: Path) -> None:
    path = FOLDER / f"{name}.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "lora_cli", "plan", str(path)],
        capture_output=True,
        encoding="utf-8",
        cwd=repository,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for expected in expectations(path):
        assert f"{path}:{expected.line}:{expected.column}: {expected.message}" in done.stderr
