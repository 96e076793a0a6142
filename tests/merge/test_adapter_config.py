"""adapter_config.json: what is known is read as peft reads it, what is not known is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig

from lora_cli.errors import MergeError
from lora_cli.merge.adapter_config import (
    AdapterConfig,
    beside_pairs,
    check_known,
    read_any_config,
    read_json,
)

PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 8,
    "lora_alpha": 16,
    "bias": "none",
    "base_model_name_or_path": "owner/model",
}


def read(folder: Path, **settings: Any) -> AdapterConfig:
    (folder / "adapter_config.json").write_text(json.dumps({**PLAIN, **settings}), "utf-8")
    return read_any_config(folder)


def refusal(folder: Path, **settings: Any) -> str:
    config = read(folder, **settings)
    with pytest.raises(MergeError) as caught:
        check_known(config)
    assert str(folder / "adapter_config.json") in str(caught.value)
    return str(caught.value)


def test_what_peft_writes_by_default_is_mergeable(tmp_path: Path) -> None:
    for rslora in (False, True):
        config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], use_rslora=rslora)
        config.save_pretrained(tmp_path)
        found = read_any_config(tmp_path)
        check_known(found)
        assert beside_pairs(found) == []
        assert found.rank("any") == 8


@pytest.mark.parametrize(
    ("settings", "scaling"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 16 / math.sqrt(8)),
        ({"lora_alpha": 4.5}, 4.5 / 8),
        ({"rank_pattern": {"q_proj": 4}}, 4.0),
        ({"alpha_pattern": {"q_proj": 8}}, 1.0),
        ({"rank_pattern": {"q_proj": 4}, "use_rslora": True}, 8.0),
    ],
)
def test_scaling_is_alpha_over_rank_or_its_root(
    tmp_path: Path, settings: dict[str, Any], scaling: float
) -> None:
    config = read(tmp_path, **settings)
    assert config.scaling("model.layers.0.self_attn.q_proj") == scaling


@pytest.mark.parametrize(
    ("pattern", "module", "rank"),
    [
        ("q_proj", "model.layers.0.self_attn.q_proj", 2),
        ("q_proj", "q_proj", 2),
        ("q_proj", "model.layers.0.self_attn.xq_proj", 8),
        ("q_proj", "model.q_proj.inner", 8),
        (r"layers\.1\..*", "model.layers.1.mlp.up_proj", 2),
        (r"layers\.1\..*", "model.layers.11.mlp.up_proj", 8),
        ("^layers.0.q_proj", "model.layers.0.q_proj", 8),
    ],
)
def test_patterns_match_as_pefts_do(tmp_path: Path, pattern: str, module: str, rank: int) -> None:
    from peft.utils.other import get_pattern_key

    config = read(tmp_path, rank_pattern={pattern: 2})
    assert config.rank(module) == rank
    assert (get_pattern_key([pattern], module) == pattern) is (rank == 2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, ["DoRA"]),
        ({"modules_to_save": ["lm_head"]}, ["modules trained in full"]),
        ({"trainable_token_indices": [1]}, ["trained tokens"]),
        ({"lora_bias": True}, ["biases on B"]),
        ({"bias": "all"}, ["trained biases"]),
        ({"alora_invocation_tokens": [1, 2]}, ["activated LoRA"]),
        ({"target_parameters": ["experts"]}, ["adapted parameters"]),
        ({"layer_replication": [[0, 2]]}, ["replicated layers"]),
        ({"use_qalora": True}, ["QALoRA"]),
        ({"init_lora_weights": "olora"}, ["initialisation 'olora', which changes the base"]),
        ({"use_what_comes_next_year": 3}, ["the setting `use_what_comes_next_year`"]),
        ({"use_dora": True, "lora_bias": True}, ["DoRA", "biases on B"]),
    ],
)
def test_what_is_more_than_pairs_is_named(
    tmp_path: Path, settings: dict[str, Any], said: list[str]
) -> None:
    assert beside_pairs(read(tmp_path, **settings)) == said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": None}, "`peft_type` is 'None', which is not known"),
        ({"peft_type": "NEXT_YEARS"}, "`peft_type` is 'NEXT_YEARS', which is not known"),
        ({"use_what_comes_next_year": 3}, "does not know the setting `use_what_comes_next_year`"),
        ({"init_lora_weights": "pissa"}, "starts by 'pissa', which changes the base"),
        ({"init_lora_weights": "loftq"}, "starts by 'loftq', which changes the base"),
        ({"layer_replication": [[0, 2]]}, "is for replicated layers, which are not merged"),
    ],
)
def test_what_may_mean_another_model_is_refused(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    """peft itself passes over settings that it does not know."""
    assert said in refusal(tmp_path, **settings)


@pytest.mark.parametrize(
    "settings",
    [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}, {"lora_bias": True}],
)
def test_what_peft_merges_is_known(tmp_path: Path, settings: dict[str, Any]) -> None:
    check_known(read(tmp_path, **settings))


@pytest.mark.parametrize("off", [None, False, {}, [], ""])
def test_a_setting_that_is_switched_off_is_none(tmp_path: Path, off: Any) -> None:
    assert read(tmp_path, use_what_comes_next_year=off, use_dora=off).rank("any") == 8


@pytest.mark.parametrize("start", [True, False, None, "gaussian"])
def test_starts_that_leave_the_base_alone_are_fine(tmp_path: Path, start: Any) -> None:
    assert read(tmp_path, init_lora_weights=start).scaling("any") == 2.0


@pytest.mark.parametrize("value", [0, -1, "8", None, True, [8]])
@pytest.mark.parametrize("key", ["r", "lora_alpha"])
def test_numbers_that_are_none_are_named(tmp_path: Path, key: str, value: Any) -> None:
    config = read(tmp_path, **{key: value})
    with pytest.raises(MergeError, match=f"`{key}` of `q_proj` is .*, not a number over 0"):
        config.scaling("q_proj")


def test_base_and_revision_are_given_if_they_are_names(tmp_path: Path) -> None:
    config = read(tmp_path, revision="0123abc")
    assert (config.base_name, config.revision) == ("owner/model", "0123abc")
    for nothing in (None, "", 5):
        config = read(tmp_path, base_model_name_or_path=nothing, revision=nothing)
        assert (config.base_name, config.revision) == (None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be read"), ("[]", "is not a JSON mapping"), ("\xff", "cannot be read")],
)
def test_a_broken_file_is_an_error_with_its_path(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(MergeError, match=rf"adapter_config\.json: {said}"):
        read_json(file)
    with pytest.raises(MergeError, match="cannot be read"):
        read_json(tmp_path / "absent.json")
