"""`loracli extract`: what it prints, and the exit codes of what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.runs import PLAIN_PEFT
from tests.merge.conftest import Call
from tests.merge.extract.conftest import Tune

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


def test_an_extraction_says_what_came_of_it(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune, loracli: Call
) -> None:
    base, tuned, output = tiny_model("llama"), tune("llama", "q_proj"), tmp_path / "lora"
    code, told, errors = loracli("extract", tuned, base, "--output", output, "--rank", 4)
    assert (code, errors) == (0, "")
    assert "change of 2 linear layers → LoRA of rank 4, " in told
    assert "% of the change over all modules, at most " in told
    assert "; ranks 4 to 4\n" in told
    assert "unchanged 19 tensors\n" in told
    assert f"base      {base}\nextracted {output}\n" in told
    assert "left out" not in told


def test_what_is_left_out_is_said(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune, loracli: Call
) -> None:
    tuned = tune("llama", "q_proj", "norm", "embed_tokens")
    arguments = ("extract", tuned, tiny_model("llama"), "-o", tmp_path / "lora", "--energy", 0.9)
    code, told, errors = loracli(*arguments)
    assert (code, told) == (1, "")
    assert "the extraction failed: 2 problems\n" in errors
    assert f"{tuned}: norm changed: 5 tensors, at most by " in errors
    assert "    → a LoRA on linear layers cannot hold it; --allow-rest " in errors
    code, told, _ = loracli(*arguments, "--allow-rest")
    assert code == 0
    assert "left out  embedding: `model.embed_tokens.weight` by " in told
    assert "left out  norm: 5 tensors, at most by " in told
    assert "error over the whole model with these: " in told


def test_json_is_for_programs(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune, loracli: Call
) -> None:
    base, tuned, output = tiny_model("llama"), tune("llama", "proj", "norm"), tmp_path / "lora"
    arguments = ["--rank", 2, "--targets", "q_proj,o_proj", "--allow-rest", "--json"]
    code, told, _ = loracli("extract", tuned, base, "-o", output, *arguments)
    assert code == 0
    result = json.loads(told)
    assert result.pop("seconds") > 0
    assert 0 < result.pop("error") < result.pop("largest_error") < result.pop("whole_error") < 1
    modules = result.pop("modules")
    assert len(modules) == 4
    assert all(fit["rank"] == 2 and 0 < fit["error"] < 1 for fit in modules.values())
    rest = result.pop("rest")
    assert {each["kind"] for each in rest} == {"norm", "linear layer outside --targets"}
    assert len(rest) == 15
    assert all(each.keys() == {"name", "kind", "change", "squared"} for each in rest)
    assert result == {
        "tuned": str(tuned),
        "base": str(base),
        "output": str(output),
        "exact": False,
        "rank": 2,
        "settings": [],
        "whole": [],
        "unchanged": ["lm_head.weight", "model.embed_tokens.weight"],
        "bytes_written": sum(path.stat().st_size for path in output.iterdir()),
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --rank or --energy: how near the LoRA should come"),
        (["--rank", "0"], "0 is no rank; give a whole number from 1 on"),
        (["--energy", "0"], "0 is not over 0 and up to 1, such as 0.95"),
        (["--energy", "nan"], "nan is not over 0"),
        (["--energy", "95"], "95 is not over 0 and up to 1"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    tmp_path: Path, loracli: Call, arguments: list[str], said: str
) -> None:
    code, told, errors = loracli("extract", "tuned", "base", "-o", tmp_path / "lora", *arguments)
    assert (code, told) == (2, "")
    assert said in errors
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_extraction_is_replaced_if_told_so(
    tmp_path: Path, tiny_model: TinyModel, tune: Tune, loracli: Call
) -> None:
    tuned = tune("llama", "q_proj")
    extracting = ("extract", tuned, tiny_model("llama"), "-o", tmp_path / "lora")
    assert loracli(*extracting, "--rank", 2)[0] == 0
    assert loracli(*extracting, "--rank", 3)[0] == 1
    assert loracli(*extracting, "--rank", 3, "--overwrite")[0] == 0
    written = json.loads((tmp_path / "lora" / "adapter_config.json").read_text("utf-8"))
    assert written["r"] == 3


def test_models_that_are_not_there_are_exit_code_1_and_no_traceback(
    tmp_path: Path, loracli: Call
) -> None:
    missing = tmp_path / "missing"
    code, told, errors = loracli("extract", missing, missing, "-o", tmp_path / "lora", "--rank", 1)
    assert (code, told) == (1, "")
    assert "the extraction failed: 2 problems" in errors
    assert "Traceback" not in errors


def test_help_has_an_example(loracli: Call) -> None:
    code, told, _ = loracli("extract", "--help")
    assert code == 0
    assert "Example: loracli extract my/tuned-model my/base-model --output extracted" in told
