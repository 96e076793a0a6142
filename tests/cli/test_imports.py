"""What the command line imports: the quick commands none of the heavy packages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.adapters import make_adapter
from tests.helpers.runs import PLAIN_PEFT

HEAVY = {
    "torch",
    "transformers",
    "peft",
    "datasets",
    "accelerate",
    "bitsandbytes",
    "matplotlib",
    "numpy",
}
_SCRIPT = """
import json, sys
from lora_cli.cli import main
try:
    main()
except SystemExit as end:
    code = end.code
json.dump([code, sorted(sys.modules)], open(sys.stdin.readline(), "w"))
"""


def imported_by(arguments: list[str], folder: Path, repository: Path) -> tuple[int, set[str]]:
    """Return the exit code of `loracli` with `arguments`, and the modules it imported."""
    answer = folder / "modules.json"
    subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments],
        input=str(answer),
        capture_output=True,
        encoding="utf-8",
        cwd=repository,
        check=True,
    )
    code, modules = json.loads(answer.read_text("utf-8"))
    return code, set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["plan", "--help"],
        ["preview", "--help"],
        ["preview", "tests/recipe/bad/several_in_order.yaml"],
        ["train", "--help"],
        ["inspect-targets", "--help"],
        ["inspect-targets", "missing", "--targets", "experts"],
        ["inspect-targets", "missing", "--rank", "0", "--variant", "nf4"],
        ["estimate-memory", "--help"],
        ["estimate-memory", "missing.yaml"],
        ["estimate-memory", "missing", "--fit", "3 bananas"],
        ["estimate-memory", "--model", "x", "--device", "no-such"],
        ["estimate-memory", "tests/recipe/bad/several_in_order.yaml"],
        ["merge", "--help"],
        ["export", "--help"],
        ["export", "missing", "--output", "nowhere", "--error", "1"],
        ["extract", "--help"],
        ["extract", "missing", "nowhere", "--output", "nowhere"],
        ["export", "missing", "--output", "nowhere", "--type", "f16"],
        ["push", "--help"],
        ["schema"],
        ["no-such-command"],
        ["plan", "tests/recipe/bad/several_in_order.yaml"],
        ["plan", "missing.yaml"],
        ["train", "tests/recipe/bad/regex_invalid.yaml", "--set", "training.steps=x"],
    ],
    ids=" ".join,
)
def test_quick_commands_import_nothing_heavy(
    arguments: list[str], tmp_path: Path, repository: Path
) -> None:
    code, modules = imported_by(arguments, tmp_path, repository)
    wrong = {".yaml", "no-such", "missing"}
    assert code == (2 if any(word in " ".join(arguments) for word in wrong) else 0)
    assert modules & HEAVY == set()


def test_help_does_not_even_import_the_recipe(tmp_path: Path, repository: Path) -> None:
    _, modules = imported_by(["--help"], tmp_path, repository)
    assert modules & {"pydantic", "yaml", "lora_cli.recipe.load"} == set()
    assert "lora_cli.cli" in modules


@PLAIN_PEFT
def test_a_merge_that_is_not_proved_does_not_import_transformers(
    tmp_path: Path, repository: Path, tiny_model: Callable[[str], Path]
) -> None:
    """Which takes longer than to merge a billion parameters."""
    adapter = make_adapter(tmp_path / "adapter", tiny_model("llama"), ["q_proj"])
    command = ["merge", str(adapter), "--no-verify", "--output", str(tmp_path / "merged")]
    code, modules = imported_by(command, tmp_path, repository)
    assert code == 0
    assert modules & HEAVY == {"torch", "numpy"}
