"""Which servers will take an adapter, before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_cli.merge.served_targets import servers_taking
from lora_cli.targets.asked import Asked, asked_recipe
from lora_cli.targets.inspect import inspect_targets
from tests.helpers.architectures import SMALL_CONFIGS
from tests.helpers.model_folders import config_folder


def servers(folder: Path, name: str, **options: Any) -> dict[str, tuple[str, str]]:
    config_class, values = SMALL_CONFIGS[name]
    model = config_folder(folder, config_class, **values)
    asked = asked_recipe(Asked(str(model), **options))
    found = inspect_targets(asked.loaded, asked.written, task_is_open=asked.task_is_open)
    return {each.name: (each.use, each.why_not) for each in servers_taking(found)}


def test_a_llama_is_taken_by_all(tmp_path: Path) -> None:
    found = servers(tmp_path, "llama", rank=12)
    assert all(use and not why_not for use, why_not in found.values())
    assert "--max-lora-rank 16" in found["vLLM"][0]


@pytest.mark.parametrize(
    ("variant", "rank"), [("rslora", 12), ("pissa", 24), ("loha", 144), ("dora", 12)]
)
def test_the_rank_is_that_of_the_plain_lora(tmp_path: Path, variant: str, rank: int) -> None:
    (use, _) = servers(tmp_path, "llama", rank=12, variant=variant)["vLLM"]
    allowed = next(each for each in (16, 32, 64, 128, 256) if each >= rank)
    assert f"--max-lora-rank {allowed} " in use


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("gpt2", {}, "GPT-2's kind of model take no adapters"),
        ("bert", {}, "adapters for sequence_classification are not exported"),
        ("vit", {}, "adapters for such models are not exported"),
        ("llama", {"variant": "p_tuning"}, "`p_tuning` changes no weight"),
        ("llama", {"targets": ("lm_head,q_proj",)}, "a LoRA on `lm_head` is not read alike"),
        ("llama", {"quantization": "int8"}, "it quantizes a model to nf4"),
        ("mixtral", {"targets": ("attention,experts",)}, "experts in one tensor"),
        (
            "llama",
            {"overrides": ("adapter.modules_to_save=[lm_head]",)},
            "whole modules (lm_head)",
        ),
        (
            "llama",
            {"overrides": ("adapter.trainable_tokens=[3]",)},
            "cannot hold trained tokens",
        ),
        ("gemma3", {}, "passes by adapters on vision and audio towers"),
    ],
)
def test_why_vllm_does_not_take_it(
    tmp_path: Path, name: str, options: dict[str, Any], why: str
) -> None:
    found = servers(tmp_path, name, **options)
    assert why in found["vLLM"][1]
    assert found["peft"][0], "peft loads whatever was trained"


def test_the_language_model_of_a_model_with_towers_is_taken(tmp_path: Path) -> None:
    found = servers(tmp_path, "gemma3", targets=("language_model.*.q_proj",))
    assert found["vLLM"][1] == ""
