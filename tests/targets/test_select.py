"""What exclusions, layers and modules trained as a whole leave: held against peft's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists

from lora_cli.adapters.lora import Lora
from lora_cli.adapters.targeted import TargetRegex
from lora_cli.adapters.vera import Vera
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.recipe.source import Source
from lora_cli.targets.match import Matched, match_targets, parameters_in
from lora_cli.targets.roles import layer_of
from tests.helpers.model_folders import CONFIGS

BaseOf = Callable[[str], BaseModelFacts]
LEAVES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def match(base: BaseModelFacts, **fields: Any) -> Matched:
    return match_targets(Lora(**fields), base, Source("recipe.yaml"))


def names(matched: Matched) -> list[str]:
    return [module.name for module in matched.modules]


@given(
    wanted=st.sets(st.sampled_from(LEAVES), min_size=2),
    layers=st.sets(st.integers(0, 1), min_size=1),
    data=st.data(),
)
def test_exclusions_and_layers_are_those_of_peft(
    base_of: BaseOf, wanted: set[str], layers: set[int], data: st.DataObject
) -> None:
    base = base_of("llama")
    excluded = data.draw(st.sets(st.sampled_from(sorted(wanted)), max_size=len(wanted) - 1))
    # of a name that is left out altogether, ours says that it adapts nothing
    matched = match(
        base,
        target_modules=TargetRegex(regex=rf".*({'|'.join(sorted(wanted))})"),
        exclude_modules=sorted(excluded),
        layers=sorted(layers),
    )
    config = LoraConfig(
        target_modules=sorted(wanted),
        exclude_modules=sorted(excluded) or None,
        layers_to_transform=sorted(layers),
    )
    every = [*(linear.name for linear in base.linears), *base.other_modules]
    assert set(names(matched)) == {
        name for name in every if check_target_module_exists(config, name)
    }


@pytest.mark.parametrize("architecture", sorted(set(CONFIGS) - {"qwen3_moe"}))
def test_one_layer_is_half_of_two(base_of: BaseOf, architecture: str) -> None:
    base = base_of(architecture)
    every = names(match(base))
    first, second = (names(match(base, layers=[number])) for number in (0, 1))
    assert len(first) == len(second) == len(every) / 2
    assert {layer_of(name) for name in first} == {0}
    assert {layer_of(name) for name in second} == {1}
    assert names(match(base, layers=["0-1"])) == names(match(base, layers=[0, 1, "0-0"])) == every


def test_an_expression_excludes_whole_names(base_of: BaseOf) -> None:
    excluded = TargetRegex(regex=r"model\.layers\.0\..*|.*\.mlp\..*")
    found = names(match(base_of("llama"), exclude_modules=excluded))
    leaves = ("q_proj", "k_proj", "v_proj", "o_proj")
    assert found == [f"model.layers.1.self_attn.{leaf}" for leaf in leaves]


def test_peft_is_told_what_is_left(base_of: BaseOf) -> None:
    matched = match(base_of("llama"), target_modules=["q_proj", "k_proj"], layers=[1])
    assert matched.peft_names == (
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.k_proj",
    )
    assert match(base_of("llama"), exclude_modules=["q_proj"]).peft_names == tuple(LEAVES[1:])


@pytest.mark.parametrize(
    ("architecture", "asked", "saved", "parameters"),
    [
        ("llama", ["norm"], ["model.norm"], 32),
        ("llama", ["lm_head"], ["lm_head"], 259 * 32),
        ("llama", ["embed_tokens", "lm_head"], ["model.embed_tokens", "lm_head"], 2 * 259 * 32),
        ("tied_llama", ["embed_tokens"], ["model.embed_tokens", "lm_head"], 259 * 32),
        ("tied_llama", ["lm_head"], ["lm_head", "model.embed_tokens"], 259 * 32),
        ("tied_llama", ["norm"], ["model.norm"], 32),
        ("gpt2", ["wte", "ln_f"], ["transformer.wte", "transformer.ln_f", "lm_head"], 8288 + 64),
        (
            "llama",
            ["input_layernorm"],
            [f"model.layers.{number}.input_layernorm" for number in (0, 1)],
            64,
        ),
    ],
)
def test_modules_that_are_trained_as_a_whole(
    base_of: BaseOf, architecture: str, asked: list[str], saved: list[str], parameters: int
) -> None:
    matched = match(base_of(architecture), modules_to_save=asked)
    assert list(matched.saved_modules) == saved
    assert parameters_in(matched.saved_modules, base_of(architecture)) == parameters


def test_what_is_trained_as_a_whole_is_not_adapted(base_of: BaseOf) -> None:
    found = names(match(base_of("llama"), modules_to_save=["layers.0.mlp", "layers.1.self_attn"]))
    assert {name.rpartition(".")[0] for name in found} == {
        "model.layers.0.self_attn",
        "model.layers.1.mlp",
    }


@pytest.mark.parametrize(
    ("architecture", "leaves"),
    [
        ("mixtral", ["gate_up_proj", "down_proj"]),
        ("gpt_oss", ["gate_up_proj", "down_proj"]),
    ],
)
def test_the_experts(base_of: BaseOf, architecture: str, leaves: list[str]) -> None:
    found = [
        each.name for each in match(base_of(architecture), target_parameters="experts").parameters
    ]
    assert found == [
        f"model.layers.{number}.mlp.experts.{leaf}" for number in (0, 1) for leaf in leaves
    ]
    one = match(base_of(architecture), target_parameters="experts", layers=[1]).parameters
    assert [each.name for each in one] == found[2:]


def test_a_router_is_adapted_only_by_name(base_of: BaseOf) -> None:
    matched = match(base_of("mixtral"), target_parameters=["gate.weight", "experts.down_proj"])
    assert [each.name.partition("mlp.")[2] for each in matched.parameters] == 2 * [
        "gate.weight",
        "experts.down_proj",
    ]


def test_a_variant_without_such_a_field_adapts_no_parameters(base_of: BaseOf) -> None:
    assert match_targets(Vera(), base_of("mixtral"), Source("recipe.yaml")).parameters == ()
