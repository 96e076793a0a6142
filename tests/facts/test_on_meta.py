"""Which model a config is, whatever it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_cli.errors import PlanError
from lora_cli.facts.base_model import facts_of
from lora_cli.facts.model_source import ModelSource, find_model
from lora_cli.facts.on_meta import any_model_on_meta, fitting_tasks
from lora_cli.tasks.causal_lm import CausalLm
from tests.helpers.architectures import SMALL_CONFIGS
from tests.helpers.model_folders import config_folder, raw_config


def folder_of(folder: Path, name: str, **more: Any) -> Path:
    config_class, values = SMALL_CONFIGS[name]
    return config_folder(folder, config_class, **{**values, **more})


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("llama", ("causal_lm", "sequence_classification", "token_classification")),
        ("bert", ("sequence_classification", "token_classification")),
        ("t5", ("seq2seq_lm", "token_classification")),
        ("mamba", ("causal_lm",)),
        ("vit", ()),
        ("qwen2_5_vl", ()),
    ],
)
def test_the_tasks_of_a_model_start_with_those_that_write(
    tmp_path: Path, name: str, tasks: tuple[str, ...]
) -> None:
    assert fitting_tasks(folder_of(tmp_path, name), trust_remote_code=False) == tasks


@pytest.mark.parametrize(
    ("name", "architectures", "built"),
    [
        ("vit", ["ViTForImageClassification"], "ViTForImageClassification"),
        ("vit", ["ViTModel"], "ViTModel"),
        ("vit", ["LlamaForCausalLM"], "ViTForImageClassification"),
        ("vit", ["NoSuchClass"], "ViTForImageClassification"),
        ("qwen2_5_vl", None, "Qwen2_5_VLForConditionalGeneration"),
        ("bert", ["BertForPreTraining"], "BertForPreTraining"),
    ],
)
def test_a_model_is_built_as_its_config_says(
    tmp_path: Path, name: str, architectures: list[str] | None, built: str
) -> None:
    folder = folder_of(tmp_path, name, architectures=architectures)
    model = any_model_on_meta(folder, trust_remote_code=False)
    assert type(model).__name__ == built
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("name", ["vit", "mamba", "clip", "whisper"])
def test_models_of_every_kind_have_facts(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, name)
    model = any_model_on_meta(folder, trust_remote_code=False)
    facts = facts_of(model, ModelSource("folder", folder, "", "none"), CausalLm())
    assert facts.parameters == model.num_parameters()
    assert (facts.embedding.name == "") == (name in ("vit", "clip"))
    if name == "mamba":
        assert facts.key_value_size == 0


def test_a_config_that_is_of_no_model(tmp_path: Path) -> None:
    folder = raw_config(tmp_path, {"model_type": "unheard_of"})
    with pytest.raises(PlanError, match="cannot be used"):
        fitting_tasks(folder, trust_remote_code=False)


def test_a_model_is_found_without_reading_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_cli.facts import model_source

    def refuse(_folder: Path) -> str:
        raise AssertionError("the weights are read")

    monkeypatch.setattr(model_source, "fingerprint_folder", refuse)
    folder = folder_of(tmp_path, "llama")
    (folder / "model.safetensors").write_bytes(b"weights")
    found = find_model(str(folder), revision=None, base_dir=tmp_path, fingerprint=False)
    assert (found.folder, found.weights, found.fingerprint) == (folder, "safetensors", "")
    with pytest.raises(AssertionError, match="the weights are read"):
        find_model(str(folder), revision=None, base_dir=tmp_path)
