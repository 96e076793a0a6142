"""`loracli estimate-memory` as it is typed: what it passes on, and what it refuses at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.cli import main
from lora_cli.console import estimate
from lora_cli.console.estimate import Asked

Typed = tuple[list[Asked], Callable[..., int]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Return what gets through, and a function that runs the command and returns its exit code."""
    through: list[Asked] = []
    monkeypatch.setattr(estimate, "make_and_show_estimate", through.append)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["loracli", "estimate-memory", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return through, run


def test_a_recipe_and_its_flags_are_passed_on(typed: Typed) -> None:
    through, run = typed
    arguments = ["r.yaml", "--set", "adapter.rank=4", "--device", "L4", "--no-levers", "--json"]
    assert run(*arguments) == 0
    (asked,) = through
    assert asked == Asked(
        recipe=Path("r.yaml"),
        settings={},
        overrides=("adapter.rank=4",),
        device="L4",
        fit=None,
        all_devices=False,
        levers=False,
        as_json=True,
    )


def test_options_stand_for_a_recipe(typed: Typed) -> None:
    through, run = typed
    arguments = "--model a/b --variant qlora --rank 8 --batch-size 2 --max-length 4096 --fit 24GB"
    assert run(*arguments.split(), "--quantization", "fp4") == 0
    (asked,) = through
    assert asked.recipe is None
    assert asked.settings == {
        "model": "a/b",
        "adapter.variant": "qlora",
        "adapter.rank": 8,
        "quantization": "fp4",
        "training.batch_size": 2,
        "training.max_length": 4096,
    }
    assert (asked.fit, asked.levers) == ("24GB", None)


def test_a_name_without_a_suffix_is_a_recipe_where_the_size_is_one(typed: Typed) -> None:
    assert typed[1]("Qwen/Qwen3-8B", "--fit", "24GB") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "name a recipe, or a base with --model"),
        ("--rank 8", "name a recipe, or a base with --model"),
        ("r.yaml --model a/b", "use --set with one"),
        ("r.yaml --rank 8", "use --set with one"),
        ("r.yaml --device L4 --fit 24GB", "give one of them"),
        ("r.yaml --all-devices --fit 24GB", "give one of them"),
        ("--model a/b --rank many", "Invalid value for '--rank'"),
        ("r.yaml s.yaml", "unexpected extra argument"),
        ("--model a/b --fit 3 bananas", "--fit 3 bananas: `3 bananas` is no size"),
        ("r.yaml --fit 3 bananas", "`3 bananas` is no size"),
        ("r.yaml --fit 24 GB", "write it as one: --fit 24GB"),
        ("r.yaml --fitt 24GB", "No such option: --fitt"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    typed: Typed,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    through, run = typed
    assert run(*arguments.split()) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not through
