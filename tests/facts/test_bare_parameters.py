"""Matrices that no linear layer holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from lora_cli.facts.bare_parameters import ParameterFacts, bare_parameters
from tests.helpers.architectures import model_of
from tests.helpers.model_folders import CONFIGS


def on_meta(name: str) -> Any:
    config_class, values = CONFIGS[name]
    config = getattr(transformers, config_class)(**{**values, "num_hidden_layers": 2})
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", ["llama", "tied_llama", "neox", "falcon", "phi"])
def test_a_dense_model_has_none(name: str) -> None:
    assert bare_parameters(on_meta(name)) == ()


@pytest.mark.parametrize(
    ("name", "router", "gate_up", "down"),
    [
        ("mixtral", "gate", (128, 32), (32, 64)),
        ("gpt_oss", "router", (32, 128), (64, 32)),  # held as (in, out)
    ],
)
def test_routers_and_experts_of_a_layer(
    name: str, router: str, gate_up: tuple[int, int], down: tuple[int, int]
) -> None:
    found = {p.name: p for p in bare_parameters(on_meta(name)) if ".layers.1." in p.name}
    mlp = "model.layers.1.mlp"
    expected = [
        ParameterFacts(f"{mlp}.{router}.weight", 1, 4, 32, experts=False),
        ParameterFacts(f"{mlp}.experts.gate_up_proj", 4, *gate_up, experts=True),
        ParameterFacts(f"{mlp}.experts.down_proj", 4, *down, experts=True),
    ]
    for each in expected:
        assert found[each.name] == each
    assert [p.name for p in found.values() if p.experts] == [p.name for p in expected[1:]]


def test_a_convolution_is_no_stack_of_experts() -> None:
    class Mixer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.expert_conv = torch.nn.Conv1d(4, 4, 3)
            self.norm = torch.nn.LayerNorm(4)

    assert bare_parameters(Mixer()) == ()


def test_experts_are_known_by_their_number_where_no_name_tells() -> None:
    model, _ = model_of("jetmoe")
    found = {each.name: each for each in bare_parameters(model)}
    experts = [each for each in found if each.endswith("put_linear.weight")]
    assert len([each for each in experts if ".mlp." in each]) == 4
    assert [each.name for each in found.values() if each.experts] == experts
