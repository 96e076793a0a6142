"""Linear layers that peft takes for experts, or refuses, as peft itself does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from lora_cli.facts.peft_names import names_refused, names_taken_for_experts
from tests.helpers.architectures import model_of
from tests.helpers.model_folders import CONFIGS

LEAVES = ("q_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def on_meta(name: str) -> Any:
    config_class, values = CONFIGS[name]
    config = getattr(transformers, config_class)(**{**values, "num_hidden_layers": 2})
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def test_names_that_peft_rewrites() -> None:
    assert names_taken_for_experts(on_meta("qwen3_moe"), LEAVES) == set(LEAVES[2:])
    assert names_taken_for_experts(on_meta("mixtral"), LEAVES) == set()
    assert names_taken_for_experts(on_meta("llama"), LEAVES) == set()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_names_that_peft_refuses_are_those_that_it_raises_at() -> None:
    model, _ = model_of("mamba")
    leaves = {
        name.rpartition(".")[2] for name, m in model.named_modules() if type(m).__name__ == "Linear"
    }
    refused = names_refused(model, leaves)
    assert refused == {"out_proj"}
    for leaf in leaves - {"lm_head"}:
        config = LoraConfig(target_modules=[leaf])
        if leaf in refused:
            with pytest.raises(ValueError, match="incompatible with Mamba"):
                get_peft_model(model_of("mamba")[0], config)
        else:
            assert get_peft_model(model_of("mamba")[0], config).targeted_module_names
    assert names_refused(on_meta("llama"), (*LEAVES, "out_proj")) == set()
