"""What a recipe names is what peft adapts: no module less, none more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists

from lora_cli.adapters.lora import Lora
from lora_cli.adapters.targeted import TargetModules, TargetRegex
from lora_cli.errors import PlanError, Problem, Where
from lora_cli.facts.base_model import BaseModelFacts, facts_of
from lora_cli.facts.model_source import ModelSource
from lora_cli.recipe.source import Source
from lora_cli.targets.match import Matched, match_targets
from lora_cli.targets.names import is_named
from tests.helpers.architectures import model_of
from tests.helpers.model_folders import CONFIGS

KEY = ("adapter", "target_modules")
SOURCE = Source(
    "recipe.yaml",
    values={KEY: Where("recipe.yaml", 3, 19)}
    | {(*KEY, index): Where("recipe.yaml", 4 + index, 5) for index in range(3)},
)
BaseOf = Callable[[str], BaseModelFacts]


def leaves(matched: Matched) -> set[str]:
    return {module.name.rpartition(".")[2] for module in matched.modules}


def match(target: TargetModules, base: BaseModelFacts) -> Matched:
    return match_targets(Lora(target_modules=target), base, SOURCE)


def problems_of(target: TargetModules, base: BaseModelFacts) -> tuple[Problem, ...]:
    with pytest.raises(PlanError) as caught:
        match(target, base)
    return caught.value.problems


def matched_by_peft(matched: Matched, base: BaseModelFacts) -> set[str]:
    config = LoraConfig(target_modules=list(matched.peft_names))
    every = [*(linear.name for linear in base.linears), *base.other_modules]
    return {name for name in every if check_target_module_exists(config, name)}


@pytest.mark.parametrize("preset", ["all-linear", "attention", "mlp"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_peft_adapts_what_a_preset_matches(base_of: BaseOf, architecture: str, preset: Any) -> None:
    base = base_of(architecture)
    if preset == "mlp" and architecture in ("mixtral", "gpt_oss"):
        (problem,) = problems_of(preset, base)
        assert problem.message == f"`mlp` matches no linear layer of {base.architecture}"
        assert problem.hint == "its layers: q_proj, k_proj, v_proj, o_proj"
        return
    matched = match(preset, base)
    assert matched_by_peft(matched, base) == {module.name for module in matched.modules}
    if architecture != "qwen3_moe":  # whose first layer has no experts
        assert len(matched.modules) % 2 == 0, "both layers alike"


@given(data=st.data())
def test_peft_adapts_what_names_match(base_of: BaseOf, data: st.DataObject) -> None:
    base = base_of(data.draw(st.sampled_from(sorted(CONFIGS))))
    names = [linear.name for linear in base.linears]
    endings = {".".join(name.split(".")[-n:]) for name in names for n in range(1, 6)}
    chosen = tuple(data.draw(st.lists(st.sampled_from(sorted(endings)), min_size=1, max_size=4)))
    matched = match(chosen, base)
    found = [module.name for module in matched.modules]
    assert found == [name for name in names if any(is_named(name, one) for one in chosen)]
    assert matched_by_peft(matched, base) == set(found)


@given(data=st.data())
def test_peft_adapts_what_an_expression_matches(base_of: BaseOf, data: st.DataObject) -> None:
    base = base_of(data.draw(st.sampled_from(sorted(CONFIGS))))
    names = [linear.name for linear in base.linears]
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=5, unique=True))
    matched = match(TargetRegex(regex="|".join(chosen)), base)
    assert {module.name for module in matched.modules} == set(chosen)
    assert matched_by_peft(matched, base) == set(chosen)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("mlp", {"gate_proj", "up_proj", "down_proj"}),
        (
            "all-linear",
            {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        ),
    ],
)
def test_the_presets_of_a_llama(base_of: BaseOf, preset: Any, expected: set[str]) -> None:
    matched = match(preset, base_of("llama"))
    assert leaves(matched) == set(matched.peft_names) == expected
    assert len(matched.modules) == 2 * len(expected)


def test_a_last_name_that_means_two_things_is_written_out(base_of: BaseOf) -> None:
    """GPT-2's attention and MLP both end in `c_proj`."""
    matched = match("mlp", base_of("gpt2"))
    assert matched.peft_names == (
        "transformer.h.0.mlp.c_fc",
        "transformer.h.0.mlp.c_proj",
        "transformer.h.1.mlp.c_fc",
        "transformer.h.1.mlp.c_proj",
    )


def test_the_order_of_names_does_not_matter(base_of: BaseOf) -> None:
    one = match(("v_proj", "q_proj"), base_of("llama"))
    other = match(("q_proj", "v_proj", "q_proj"), base_of("llama"))
    assert one == other
    assert one.peft_names == ("q_proj", "v_proj")


def test_routers_are_adapted_only_by_name(base_of: BaseOf) -> None:
    base = base_of("mixtral")
    assert leaves(match("all-linear", base)) == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    }


def test_every_name_that_matches_nothing_is_told_at_its_line(base_of: BaseOf) -> None:
    problems = problems_of(("q_prj", "v_proj", "norm"), base_of("llama"))
    listing = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    assert [str(problem) for problem in problems] == [
        (
            "recipe.yaml:4:5 adapter.target_modules[0]: `q_prj` matches no module of "
            f"LlamaForCausalLM (did you mean `q_proj`? its layers: {listing})"
        ),
        (
            "recipe.yaml:6:5 adapter.target_modules[2]: `norm` is not a linear layer inside the "
            f"model (layers that can be adapted: {listing})"
        ),
    ]


@pytest.mark.parametrize("name", ["rotary_emb", "self_attn", "model.norm", "layers"])
def test_a_module_that_is_not_linear_is_told_from_one_that_is_not_there(
    base_of: BaseOf, name: str
) -> None:
    (problem,) = problems_of((name,), base_of("llama"))
    assert problem.message == f"`{name}` is not a linear layer inside the model"


def test_a_layer_that_is_never_called_is_no_layer_to_adapt() -> None:
    model, task = model_of("mamba")
    base = facts_of(model, ModelSource("folder", Path("nowhere"), "", "none"), task)
    assert leaves(match("all-linear", base)) == {"in_proj", "x_proj", "out_proj"}
    (problem,) = problems_of(("dt_proj",), base)
    assert problem.message.startswith("`dt_proj` is never called: the model reads its weight")
    assert problem.hint == "layers that can be adapted: in_proj, x_proj, out_proj"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("all-linear", "write `target_modules: all-linear`, without brackets"),
        ("mlp", "write `target_modules: mlp`, without brackets"),
        ("q_proj,v_proj", "write [q_proj, v_proj]"),
        ("self_attn", "name the layers in it: q_proj, k_proj, v_proj, o_proj"),
    ],
)
def test_what_was_meant_by_a_name_that_is_no_layers(base_of: BaseOf, name: str, hint: str) -> None:
    (problem,) = problems_of((name,), base_of("llama"))
    assert problem.hint == hint


def test_a_name_that_is_like_nothing_gets_no_guess(base_of: BaseOf) -> None:
    (problem,) = problems_of(("zzz",), base_of("llama"))
    assert problem.hint.startswith("its layers: ")


@pytest.mark.parametrize("regex", ["q_proj", "layers.0.*", "model.layers.9.*", "lm_hea"])
def test_an_expression_must_match_a_whole_name(base_of: BaseOf, regex: str) -> None:
    (problem,) = problems_of(TargetRegex(regex=regex), base_of("llama"))
    assert str(problem) == (
        "recipe.yaml:3:19 adapter.target_modules.regex: the expression matches no linear layer of "
        "LlamaForCausalLM (it must match a whole name, such as `model.layers.0.self_attn.q_proj`)"
    )


def test_part_of_a_last_name_is_no_name(base_of: BaseOf) -> None:
    assert not is_named("model.layers.0.self_attn.q_proj", "proj")
    assert is_named("q_proj", "q_proj")
    (problem,) = problems_of(("proj",), base_of("llama"))
    assert "matches no module" in problem.message


@pytest.mark.parametrize("names", [("lm_head", "embed_tokens"), TargetRegex(regex=".*")])
def test_embedding_and_head_are_adapted_where_they_are_named(base_of: BaseOf, names: Any) -> None:
    matched = match(names, base_of("llama"))
    found = {module.name: module for module in matched.modules}
    assert found["model.embed_tokens"].in_features == found["lm_head"].out_features == 259
    assert found["model.embed_tokens"].out_features == found["lm_head"].in_features == 32
    assert matched_by_peft(matched, base_of("llama")) == set(found)
    assert not {"model.embed_tokens", "lm_head"} & {
        module.name for module in match("all-linear", base_of("llama")).modules
    }
