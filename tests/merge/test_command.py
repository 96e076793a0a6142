"""`loracli merge`: what it prints, and the exit codes of what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lora_cli.merge.model_card import card_for
from tests.helpers.adapters import change_config, change_tensors, stored
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
    assert "LORA, 4 tensors → 2 of 21 tensors changed, " in output
    assert f"base      {tiny_model('llama')}\n" in output
    assert f"merged    {tmp_path / 'merged'}\n" in output
    assert "proof     144 places of 6 texts: logits differ by at most " in output
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_json_is_for_programs(adapter: Path, tmp_path: Path, loracli: Call) -> None:
    code, output, _ = loracli("merge", adapter, "-o", tmp_path / "merged", "--json")
    assert code == 0
    told = json.loads(output)
    assert told == json.loads((tmp_path / "merged" / "merge_report.json").read_text("utf-8"))
    seconds, proof = told.pop("seconds"), told.pop("proof")
    assert seconds > 0
    assert proof["relative_difference"] <= proof["tolerance"] < proof["effect"]
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "merged").iterdir()}
    assert "only their shapes were checked" in told.pop("base_doubt")
    assert told == {
        "adapter": str(adapter),
        "method": "LORA",
        "base": json.loads((adapter / "adapter_config.json").read_text())[
            "base_model_name_or_path"
        ],
        "base_made_from": "",
        "output": str(tmp_path / "merged"),
        "files": sorted(sizes),
        "tensors": 21,
        "changed_tensors": 2,
        "requantized_tensors": 0,
        "adapter_tensors": 4,
        "difference_to_training": None,
        "untied": [],
        "dropped": [],
        "notes": [],
        "bytes_written": sum(sizes.values()) - sizes["merge_report.json"],
    }


def test_the_options_are_taken(adapter: Path, tmp_path: Path, loracli: Call) -> None:
    code, output, _ = loracli(
        "merge", adapter, "--dtype", "bfloat16", "--max-shard-size", "30KB", "--no-verify"
    )
    assert code == 0
    assert "proof     not asked for (--no-verify)" in output
    merged = tmp_path / "adapter-merged"
    assert len(list(merged.glob("model-*.safetensors"))) > 2
    assert {each.dtype for each in stored(merged).values()} == {torch.bfloat16}
    assert loracli("merge", adapter, "--no-verify")[0] == 1
    assert loracli("merge", adapter, "--no-verify", "--overwrite")[0] == 0
    assert {each.dtype for each in stored(merged).values()} == {torch.float32}


def test_the_original_weights_of_what_was_not_quantized_are_no_others(
    adapter: Path, tmp_path: Path, loracli: Call
) -> None:
    merging = ("merge", adapter, "--no-verify", "-o")
    code, output, _ = loracli(*merging, tmp_path / "one", "--onto", "original")
    assert code == 0
    note = "note      --onto original changes nothing: no training on a quantized base is recorded"
    assert f"{note}\n" in output
    assert note not in loracli(*merging, tmp_path / "other")[1]


def test_onto_the_weights_of_the_runs_own_base_says_whose_they_are(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel, loracli: Call
) -> None:
    """As PiSSA makes one: the model that it was made of is not read."""
    base = tiny_model("llama")
    made_from = {"base": str(base), "base_made_from": {"base": "owner/model"}}
    origin = {**made_from, "quantization": {"method": "nf4"}}
    (adapter / "loracli.json").write_text(json.dumps(origin))
    merged = tmp_path / "merged"
    code, output, _ = loracli("merge", adapter, "--onto", "original", "-o", merged)
    assert code == 0
    note = f"note      on the weights of {base} it is not the model that was trained: logits differ"
    assert f"{note} from that by " in output
    assert card_for(merged, "me/merged").text.startswith(
        '---\nlibrary_name: transformers\nbase_model: "owner/model"\n'
    )


def test_a_base_that_was_moved_is_named(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel, loracli: Call
) -> None:
    base = tiny_model("llama")
    change_config(adapter, base_model_name_or_path="/nowhere")
    code, output, _ = loracli("merge", adapter, "--base", base, "--no-verify")
    assert code == 0
    assert f"base      {base}\n" in output


@pytest.mark.parametrize("size", ["five", "0", "-1GB", "5 parsecs", ""])
def test_a_size_that_is_none_is_a_usage_error(adapter: Path, loracli: Call, size: str) -> None:
    code, _, errors = loracli("merge", adapter, f"--max-shard-size={size}")
    assert code == 2
    assert "is no size, such as 5GB or 500MB" in errors


@pytest.mark.parametrize("fault", ["kind", "foreign", "base", "no adapter", "output"])
def test_what_cannot_be_merged_is_exit_code_1_and_no_traceback(
    adapter: Path, tmp_path: Path, loracli: Call, fault: str
) -> None:
    output = tmp_path / "merged"
    if fault == "kind":
        change_config(adapter, peft_type="NEXT_YEARS")
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
