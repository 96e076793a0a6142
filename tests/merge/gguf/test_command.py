"""`loracli export --to gguf`: what it prints, and the exit codes of what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.adapters import make_adapter
from tests.helpers.gguf_models import make_gguf_source
from tests.helpers.methods import NOTICES
from tests.merge.conftest import Call

pytestmark = NOTICES


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_gguf_source(tmp_path / "model")


def test_a_model_becomes_one_file(model: Path, tmp_path: Path, loracli: Call) -> None:
    served = tmp_path / "served"
    code, output, errors = loracli(
        "export", model, "--to", "gguf", "--type", "q8_0", "--output", served
    )
    assert (code, errors) == (0, "")
    assert "model of 21 tensors (16 q8_0, 5 f32) → GGUF of `llama`, " in output
    assert "every tensor is there; its tokenizer makes the same tokens of 10 texts" in output
    assert f"use       ollama create NAME -f {served}/Modelfile\n" in output
    assert "neither llama.cpp nor Ollama was run" in output
    assert sorted(path.name for path in served.iterdir()) == ["Modelfile", "model.gguf"]


def test_an_adapter_becomes_one_file_and_json_is_for_programs(
    model: Path, tmp_path: Path, loracli: Call
) -> None:
    adapter = make_adapter(tmp_path / "adapter", model, ["q_proj"])
    served = tmp_path / "served"
    code, output, _ = loracli("export", adapter, "--to", "gguf", "-o", served, "--json")
    assert code == 0
    told = json.loads(output)
    assert told.pop("seconds") > 0
    assert told.pop("bytes_written") == sum(path.stat().st_size for path in served.iterdir())
    assert told == {
        "source": str(adapter),
        "form": "adapter",
        "architecture": "llama",
        "base": str(model),
        "precision": "f32",
        "output": str(served),
        "file": str(served / "adapter.gguf"),
        "modelfile": str(served / "Modelfile"),
        "tensors": 4,
        "kinds": {"f32": 4},
        "texts_compared": 0,
        "notes": [],
        "use": [
            f"llama-cli -m BASE.gguf --lora {served}/adapter.gguf --jinja",
            f"ollama create NAME -f {served}/Modelfile",
        ],
    }


def test_an_earlier_file_is_replaced_if_told_so(model: Path, tmp_path: Path, loracli: Call) -> None:
    adapter, served = make_adapter(tmp_path / "adapter", model, ["q_proj"]), tmp_path / "served"
    exporting = ("export", adapter, "--to", "gguf", "-o", served)
    assert loracli(*exporting)[0] == 0
    code, _, errors = loracli(*exporting)
    assert code == 1
    assert "the export failed\n" in errors
    assert "served: exists already" in errors
    assert loracli(*exporting, "--overwrite")[0] == 0
    code, _, errors = loracli("export", model, "--to", "gguf", "-o", served, "--overwrite")
    assert code == 1
    assert "has no model.gguf: it is not overwritten" in errors


def test_a_rank_for_a_model_is_wrong_usage_and_leaves_nothing(
    model: Path, tmp_path: Path, loracli: Call
) -> None:
    code, output, errors = loracli(
        "export", model, "--to", "gguf", "--rank", 2, "-o", tmp_path / "served"
    )
    assert (code, output) == (2, "")
    assert "wrong usage" in errors
    assert "--rank and --error are for adapters" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--type", "f16"], "--type is for --to gguf"),
        (["--to", "gguf", "--type", "q4_k_m"], "'q4_k_m' is not one of"),
        (["--to", "onnx"], "'onnx' is not one of 'lora', 'gguf'"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    tmp_path: Path, loracli: Call, arguments: list[str], said: str
) -> None:
    code, _, errors = loracli("export", tmp_path, "-o", tmp_path / "served", *arguments)
    assert code == 2
    assert said in errors
