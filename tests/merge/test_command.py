"""`loracli merge`: what it prints, and the exit codes of what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.adapters import change_config, change_tensors
from tests.helpers.runs import PLAIN_PEFT
from tests.merge.conftest import Call

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


def test_a_merge_says_what_it_did(
    adapter: Path,
    tmp_path: Path,
    tiny_model: TinyModel,
    loracli: Call,
) -> None:
    code, output, _ = loracli("merge", adapter, "--output", tmp_path / "merged")
    assert code == 0
    assert "4 adapter tensors folded into 2 of 21 tensors, " in output
    assert f"base      {tiny_model('llama')}\n" in output
    assert f"merged    {tmp_path / 'merged'}\n" in output
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_json_is_for_programs(adapter: Path, tmp_path: Path, loracli: Call) -> None:
    code, output, _ = loracli("merge", adapter, "-o", tmp_path / "merged", "--json")
    assert code == 0
    told = json.loads(output)
    seconds = told.pop("seconds")
    assert seconds > 0
    written = sum(path.stat().st_size for path in (tmp_path / "merged").iterdir())
    assert told == {
        "adapter": str(adapter),
        "base": json.loads((adapter / "adapter_config.json").read_text())[
            "base_model_name_or_path"
        ],
        "output": str(tmp_path / "merged"),
        "tensors": 21,
        "changed_tensors": 2,
        "adapter_tensors": 4,
        "bytes_written": written,
    }


@pytest.mark.parametrize("fault", ["kind", "foreign", "base", "no adapter", "output"])
def test_what_cannot_be_merged_is_exit_code_1_and_no_traceback(
    adapter: Path, tmp_path: Path, loracli: Call, fault: str
) -> None:
    output = tmp_path / "merged"
    if fault == "kind":
        change_config(adapter, use_dora=True)
    elif fault == "foreign":
        change_tensors(adapter, lambda tensors: tensors.update(extra=torch.zeros(1)))
    elif fault == "base":
        change_config(adapter, base_model_name_or_path="/nowhere")
    elif fault == "no adapter":
        (adapter / "adapter_config.json").unlink()
    else:
        output = adapter
    code, told, errors = loracli("merge", adapter, "--output", output)
    assert (code, told) == (1, "")
    assert "the merge failed" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "merged").exists()


def test_an_output_must_be_named(adapter: Path, loracli: Call) -> None:
    code, _, errors = loracli("merge", adapter)
    assert code == 2
    assert "--output" in errors
