"""`loracli export`: what it prints, and the exit codes of what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.adapters import change_config, change_tensors, make_adapter
from tests.helpers.methods import APPROXIMATE, EXACT, NOTICES
from tests.merge.conftest import Call

pytestmark = NOTICES
TinyModel = Callable[[str], Path]


def test_an_exact_export_says_so_and_how_it_is_served(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel, loracli: Call
) -> None:
    served, base = tmp_path / "served", tiny_model("llama")
    code, output, errors = loracli("export", adapter, "--to", "lora", "--output", served)
    assert (code, errors) == (0, "")
    assert "LORA on 2 modules → LoRA of rank 4, " in output
    assert "error     none: the same change of weights\n" in output
    assert f"base      {base}\n" in output
    assert f"exported  {served}\n" in output
    vllm = f"vllm serve {base} --enable-lora --max-lora-rank 8 --lora-modules tuned={served}"
    assert f"vLLM      {vllm}\n" in output
    assert f"llama.cpp python convert_lora_to_gguf.py {served} --base {base}\n" in output
    assert "was read in their sources; neither was run" in output
    assert (served / "adapter_model.safetensors").is_file()


def test_an_approximation_says_how_far_off_it_is(
    tmp_path: Path, tiny_model: TinyModel, loracli: Call
) -> None:
    adapter = APPROXIMATE["dora"](tmp_path / "adapter", tiny_model("llama"), "llama")
    code, output, _ = loracli("export", adapter, "-o", tmp_path / "served", "--error", "0.3")
    assert code == 0
    line = next(line for line in output.splitlines() if line.startswith("error "))
    assert "% of the change over all modules, at most " in line
    assert "`model.layers." in line
    assert "; ranks " in line


def test_a_server_that_does_not_take_it_has_its_reason(
    tmp_path: Path, tiny_model: TinyModel, loracli: Call
) -> None:
    adapter = EXACT["lora"](tmp_path / "adapter", tiny_model("gpt2"), "gpt2")
    code, output, _ = loracli("export", adapter, "-o", tmp_path / "served")
    assert code == 0
    assert "llama.cpp no: its converter transposes weights" in output
    assert "vLLM      no: its classes for GPT-2's kind of model take no adapters" in output


def test_what_is_to_be_known_of_the_base_is_said(
    adapter: Path, tmp_path: Path, loracli: Call
) -> None:
    origin = {"quantization": {"method": "int8"}}
    (adapter / "loracli.json").write_text(json.dumps(origin))
    _, output, _ = loracli("export", adapter, "-o", tmp_path / "served")
    assert "note      trained on a base in int8: serve it on a base held in int8 too\n" in output


def test_json_is_for_programs(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel, loracli: Call
) -> None:
    served = tmp_path / "served"
    code, output, _ = loracli("export", adapter, "-o", served, "--rank", 3, "--json")
    assert code == 0
    told = json.loads(output)
    assert told.pop("seconds") > 0
    assert 0 < told.pop("error") < told.pop("largest_error") < 1
    assert [server.pop("name") for server in told["servers"]] == ["peft", "vLLM", "llama.cpp"]
    assert all(server.keys() == {"use", "why_not"} for server in told.pop("servers"))
    modules = told.pop("modules")
    assert list(modules) == [f"model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)]
    assert all(fit["rank"] == 3 and 0 < fit["error"] < 1 for fit in modules.values())
    assert told == {
        "adapter": str(adapter),
        "method": "LORA",
        "base": str(tiny_model("llama")),
        "output": str(served),
        "exact": False,
        "rank": 3,
        "notes": [],
        "bytes_written": sum(path.stat().st_size for path in served.iterdir()),
    }


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("dora", "--error 0.05, or a rank as in --rank 32"),
        ("prompt", "changes no weight"),
        ("foreign", "would be lost"),
        ("no adapter", "holds no adapter"),
        ("output", "holds what is read: it is not overwritten"),
    ],
)
def test_what_cannot_be_exported_is_exit_code_1_and_no_traceback(
    adapter: Path, tmp_path: Path, loracli: Call, fault: str, said: str
) -> None:
    output = tmp_path / "served"
    if fault == "dora":
        change_config(adapter, use_dora=True)
    elif fault == "prompt":
        change_config(adapter, peft_type="PROMPT_TUNING")
    elif fault == "foreign":
        change_tensors(adapter, lambda tensors: tensors.update(extra=torch.zeros(1)))
    elif fault == "no adapter":
        (adapter / "adapter_config.json").unlink()
    else:
        output = adapter
    code, told, errors = loracli("export", adapter, "--output", output)
    assert (code, told) == (1, "")
    assert "the export failed" in errors
    assert said in errors
    assert "    → " in errors or fault == "foreign"
    assert "Traceback" not in errors
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rank", "0"], "0 is no rank; give a whole number from 1 on"),
        (["--rank", "-3"], "-3 is no rank"),
        (["--rank", "some"], "Invalid value for '--rank'"),
        (["--error", "0"], "0 is not between 0 and 1, such as 0.05 for 5 %"),
        (["--error", "1"], "1 is not between 0 and 1"),
        (["--error", "-0.1"], "-0.1 is not between 0 and 1"),
        (["--error", "nan"], "nan is not between 0 and 1"),
        (["--rank", "4", "--error", "0.1"], "give --rank or --error, not both"),
        (["--to", "onnx"], "'onnx' is not"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    adapter: Path, tmp_path: Path, loracli: Call, arguments: list[str], said: str
) -> None:
    code, told, errors = loracli("export", adapter, "-o", tmp_path / "served", *arguments)
    assert (code, told) == (2, "")
    assert said in errors
    assert not (tmp_path / "served").exists()


def test_an_earlier_export_is_replaced_if_told_so(
    adapter: Path, tmp_path: Path, loracli: Call
) -> None:
    exporting = ("export", adapter, "-o", tmp_path / "served")
    assert loracli(*exporting)[0] == 0
    assert loracli(*exporting, "--rank", 2)[0] == 1
    assert loracli(*exporting, "--rank", 2, "--overwrite")[0] == 0
    written = json.loads((tmp_path / "served" / "adapter_config.json").read_text("utf-8"))
    assert written["r"] == 2
    code, _, errors = loracli("export", adapter, "-o", adapter, "--overwrite")
    assert code == 1
    assert "holds what is read: it is not overwritten" in errors


def test_a_trained_adapter_is_never_replaced(
    adapter: Path, tmp_path: Path, tiny_model: TinyModel, loracli: Call
) -> None:
    trained = make_adapter(tmp_path / "run" / "adapter", tiny_model("llama"), ["v_proj"])
    (trained / "loracli.json").write_text('{"base": "owner/base", "plan_digest": "1"}')
    before = (trained / "adapter_model.safetensors").read_bytes()
    into = ("-o", trained, "--overwrite")
    for command in (
        ("export", adapter),
        ("merge", adapter, adapter, "--method", "linear"),
        ("extract", tiny_model("llama"), tiny_model("llama"), "--rank", 2),
    ):
        code, output, errors = loracli(*command, *into)
        assert (code, output) == (1, "")
        assert "holds an adapter that was not exported, extracted or combined: it is not" in errors
    assert (trained / "adapter_model.safetensors").read_bytes() == before


def test_an_output_must_be_named(adapter: Path, loracli: Call) -> None:
    code, _, errors = loracli("export", adapter)
    assert code == 2
    assert "--output" in errors


def test_help_has_an_example(loracli: Call) -> None:
    code, output, _ = loracli("export", "--help")
    assert code == 0
    assert "Example: loracli export runs/quickstart --output served/quickstart" in output
