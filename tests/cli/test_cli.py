"""The command table and its exit codes; the work behind the commands stands in for itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lora_cli.recipe.load
from lora_cli import __version__
from lora_cli.cli import main
from lora_cli.errors import (
    GuardTrippedError,
    InterruptedRunError,
    LoraCliError,
    MergeError,
    MissingDependencyError,
    PlanError,
    RecipeError,
    RunError,
)

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `loracli` with arguments and returns its exit code."""

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["loracli", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return call


@pytest.mark.parametrize(
    ("error", "code", "title"),
    [
        (LoraCliError("it broke"), 1, "error"),
        (RecipeError("it broke"), 2, "the recipe is not valid"),
        (PlanError("it broke"), 2, "the recipe cannot be planned"),
        (MissingDependencyError("it broke"), 2, "a package is missing"),
        (RunError("it broke"), 1, "the run failed"),
        (MergeError("it broke"), 1, "the merge failed"),
        (GuardTrippedError("it broke"), 4, "a guard stopped the run"),
        (InterruptedRunError("it broke", signal_number=2), 130, "the run was interrupted"),
        (InterruptedRunError("it broke", signal_number=15), 143, "the run was interrupted"),
        (ZeroDivisionError("it broke"), 3, "unexpected error"),
        (RecursionError("it broke"), 3, "unexpected error"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "preview", "train"])
def test_an_error_is_an_exit_code(
    command: str,
    error: Exception,
    code: int,
    title: str,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(lora_cli.recipe.load, "load_recipe", fail)
    assert run(command, "recipe.yaml") == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert title in shown.err
    assert "it broke" in shown.err
    assert "Traceback" not in shown.err


def test_ctrl_c(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lora_cli.recipe.load, "load_recipe", interrupt)
    assert run("plan", "recipe.yaml") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_version(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"loracli {__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(flag: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(flag) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("train", "plan", "preview", "merge", "schema"))
    assert "Example: loracli train recipes/quickstart.yaml" in text


@pytest.mark.parametrize("command", ["train", "plan", "preview", "merge", "schema"])
def test_the_help_of_a_command_has_an_example(
    command: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, "--help") == 0
    assert f"loracli {command}" in capsys.readouterr().out.partition("Example")[2]


@pytest.mark.parametrize(
    "arguments",
    [["fly"], ["plan"], ["plan", "a", "b"], ["plan", "a", "--sett", "b=1"], ["plan", "a", "--set"]],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str], run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "plan", "preview"])
def test_a_recipe_left_out_leads_to_the_commands_own_help(
    command: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    assert f"loracli {command} -h' for help." in capsys.readouterr().err


def test_the_schema_is_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "loracli recipe"


def test_every_set_flag_reaches_the_recipe(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\nadapter: lora\ndataset: d\n", "utf-8")
    assert run("plan", str(path), "--set", "seed=x", "--set", "lora_r=1") == 2
    errors = capsys.readouterr().err
    assert "--set seed=x: `seed` must be a whole number" in errors
    assert "--set lora_r=1: unknown key `lora_r`" in errors
