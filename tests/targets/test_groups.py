"""Groups of a model's weights: nothing left out, nothing twice, odd ones told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lora_cli.facts.base_model import facts_of
from lora_cli.facts.inventory import inventory
from lora_cli.facts.model_source import ModelSource
from lora_cli.targets.groups import NORMS, ORDER, Group, grouped
from lora_cli.tasks.causal_lm import CausalLm
from tests.helpers.architectures import model_of
from tests.helpers.model_folders import TINY


def groups_of(model: Any, task: Any) -> list[Group]:
    base = facts_of(model, ModelSource("folder", Path("nowhere"), "", "none"), task)
    return list(grouped(inventory(model), base))


@pytest.mark.parametrize("name", ["llama", "jamba", "t5", "gemma3", "whisper"])
def test_every_weight_is_in_one_group(name: str) -> None:
    model, task = model_of(name)
    groups = groups_of(model, task)
    names = [name for group in groups for name in group.names]
    assert len(names) == len(set(names)) == len(inventory(model))
    assert sum(group.parameters for group in groups) == model.num_parameters()
    assert {group.role for group in groups} <= {*ORDER, NORMS}


def test_a_layer_of_another_shape_stands_out() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**{**TINY, "num_hidden_layers": 4}))
        model.model.layers[2].mlp.up_proj = torch.nn.Linear(32, 48, bias=False)
        del model.model.layers[3].self_attn.q_proj
    groups = {group.part: group for group in groups_of(model, CausalLm()) if group.layers}
    up = groups["up"]
    assert [(each.shape, each.count, each.layers) for each in up.shapes] == [
        ((64, 32), 3, "0-1, 3"),
        ((48, 32), 1, "2"),
    ]
    q = groups["q"]
    assert (q.count, q.layers, q.of_layers, q.missing) == (3, "0-2", 4, "3")
    assert (groups["down"].missing, groups["down"].of_layers) == ("", 4)


def test_towers_come_as_the_model_has_them_and_parts_in_their_order() -> None:
    groups = groups_of(*model_of("qwen2_5_vl"))
    assert list(dict.fromkeys(group.tower for group in groups)) == ["vision", "connector", ""]
    main = [
        group.part for group in groups if not group.tower and group.role in ("attention", "mlp")
    ]
    assert main == ["q", "k", "v", "o", "gate", "up", "down"]


def test_the_head_of_a_task_is_a_head() -> None:
    groups = groups_of(*model_of("bert"))
    (head,) = [group for group in groups if group.role == "head"]
    assert head.names == ("classifier",)


def test_one_weight_in_several_layers_is_said_to_be_shared() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**{**TINY, "num_hidden_layers": 3}))
    for layer in model.model.layers:
        layer.mlp.up_proj.weight = model.model.layers[0].mlp.up_proj.weight
    groups = groups_of(model, CausalLm())
    shared = {group.part: group.shared for group in groups if group.role == "mlp"}
    assert shared == {"gate": 0, "up": 2, "down": 0}
    assert all(not group.tied_to for group in groups if group.role == "mlp")
