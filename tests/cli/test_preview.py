"""`loracli preview` as it is called: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.cli import main
from lora_cli.console import preview as console_preview

WriteRecipe = Callable[..., Path]
Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `loracli preview` and returns its exit code."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["loracli", "preview", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def test_three_rows_and_the_account(
    recipe_file: WriteRecipe, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recipe_file()) == 0
    shown = capsys.readouterr().out
    assert shown.count("⟦") == 1 + 3
    assert "24 read = 24 kept + 0 dropped" in shown


def test_json_and_a_page_in_one(
    recipe_file: WriteRecipe, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    arguments = ["--rows", 1, "--json", "--html", page, "--set", "training.loss_on=everything"]
    assert run(recipe_file(), *arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["shown"]) == 1
    supervised = [span["supervised"] for span in told["shown"][0]["rows"][0]["spans"]]
    assert supervised.count(False) == 1  # the first token
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_nothing_is_trained_and_no_weights_are_read(
    recipe_file: WriteRecipe, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    monkeypatch.setattr(safetensors.torch, "load_file", lambda *_: pytest.fail("weights"))
    assert run(recipe_file()) == 0
    assert not (tmp_path / "run").exists()


def test_errors_are_those_of_the_plan(
    recipe_file: WriteRecipe, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = recipe_file()
    with (tmp_path / "rows.jsonl").open("a") as rows:
        rows.write("{broken\n")
    page = tmp_path / "page.html"
    assert run(recipe, "--html", page) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "rows.jsonl:25" in shown.err
    assert "Traceback" not in shown.err
    assert not page.exists()


@pytest.mark.parametrize(
    "arguments",
    [["--rows", "-1"], ["--html", "no/such/folder/page.html"], ["--html", "."]],
    ids=" ".join,
)
def test_wrong_usage(
    recipe_file: WriteRecipe, run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(recipe_file(), *arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_an_error(
    recipe_file: WriteRecipe,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(console_preview, "write_text", full)
    assert run(recipe_file(), "--html", tmp_path / "page.html") == 1
    assert "page.html: cannot be written: No space left on device" in capsys.readouterr().err
