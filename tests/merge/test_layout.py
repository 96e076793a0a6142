"""Where each update belongs in the base's files, and which way round; the unclear is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_folder import Update
from lora_cli.merge.layout import weight_updates

TinyModel = Callable[[str], Path]
UPDATE = Update(torch.ones(1, 1), torch.ones(1, 1), 1.0)


def place(base: Path, *modules: str, stored: list[str] | None = None) -> dict[str, bool]:
    """Return {name of the tensor: whether it is (in, out)} of these modules' updates."""
    names = [f"{module}.weight" for module in modules] if stored is None else stored
    found = weight_updates(base, dict.fromkeys(modules, UPDATE), names)
    assert all(update.update is UPDATE for update in found.values())
    return {name: update.input_by_output for name, update in found.items()}


@pytest.mark.parametrize(
    ("architecture", "module", "input_by_output"),
    [
        ("llama", "model.layers.0.self_attn.q_proj", False),
        ("llama", "lm_head", False),
        ("gpt2", "transformer.h.1.attn.c_proj", True),
        ("gpt2", "transformer.h.0.mlp.c_fc", True),
    ],
)
def test_the_modules_class_says_how_its_weight_lies(
    tiny_model: TinyModel, architecture: str, module: str, input_by_output: bool
) -> None:
    """The shape of a square weight would not: c_proj's is 32 × 32."""
    assert place(tiny_model(architecture), module) == {f"{module}.weight": input_by_output}


def test_a_name_without_the_models_prefix_is_found(tiny_model: TinyModel) -> None:
    module = "transformer.h.0.mlp.c_fc"
    found = place(tiny_model("gpt2"), module, stored=["h.0.mlp.c_fc.weight"])
    assert found == {"h.0.mlp.c_fc.weight": True}
    both = ["h.0.mlp.c_fc.weight", f"{module}.weight"]
    assert place(tiny_model("gpt2"), module, stored=both) == {f"{module}.weight": True}


def test_updates_without_a_tensor_are_counted_and_named(tiny_model: TinyModel) -> None:
    present = "model.layers.0.self_attn.q_proj"
    absent = ["model.layers.9.self_attn.q_proj", "model.layers.8.self_attn.q_proj"]
    with pytest.raises(MergeError) as caught:
        place(tiny_model("llama"), present, *absent, stored=[f"{present}.weight"])
    message = str(caught.value)
    assert f"no tensor for 2 of 3 updates, among them `{absent[0]}.weight`" in message
    assert "is this the right base?" in message


@pytest.mark.parametrize("architecture", ["tied_llama", "gpt2"])
@pytest.mark.parametrize("stored", [[], ["lm_head.weight"]])
def test_tied_weights_are_refused_whether_or_not_the_file_holds_them_twice(
    tiny_model: TinyModel, architecture: str, stored: list[str]
) -> None:
    """A file may hold the head beside the embeddings; loading would then drop what was folded."""
    with pytest.raises(MergeError, match=r"`lm_head` shares its weight.*untie"):
        place(tiny_model(architecture), "lm_head", stored=stored)


def test_tied_embeddings_are_refused_too(tiny_model: TinyModel) -> None:
    with pytest.raises(MergeError, match=r"`model\.embed_tokens` shares its weight"):
        place(tiny_model("tied_llama"), "model.embed_tokens")


def test_modules_that_are_not_linear_are_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(MergeError, match=r"`model\.embed_tokens` is a Embedding.*linear"):
        place(tiny_model("llama"), "model.embed_tokens")
    with pytest.raises(MergeError, match=r"`value_head` is in the base's files, but not in Llama"):
        place(tiny_model("llama"), "value_head")


def test_a_quantized_base_is_refused(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(MergeError, match=r"base: is quantized: only full-precision bases"):
        place(base, "model.layers.0.self_attn.q_proj")


@pytest.mark.parametrize(
    "config", ['{"model_type": "unheard-of"}', "{}", '{"model_type": "t5"}', "[]", "{"]
)
def test_a_base_that_is_no_causal_model_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(
        MergeError, match=r"cannot be built as a causal|not a JSON mapping|cannot be read"
    ):
        place(tmp_path, "model.layers.0.self_attn.q_proj")


def test_a_model_with_code_of_its_own_runs_none_of_it(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    base = Path(shutil.copytree(tiny_model("llama"), tmp_path / "base"))
    config = json.loads((base / "config.json").read_text("utf-8"))
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Own"},
    }
    (base / "config.json").write_text(json.dumps(config))
    (base / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(MergeError, match="cannot be built as a causal language model"):
        place(base, "model.layers.0.self_attn.q_proj")
    assert not (tmp_path / "ran").exists()
