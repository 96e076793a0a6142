"""What patterns mean, each by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.adapters.lora import Lora
from lora_cli.facts.base_model import BaseModelFacts, facts_of
from lora_cli.facts.model_source import ModelSource
from lora_cli.recipe.source import Source
from lora_cli.targets.cost import choose
from lora_cli.targets.explain import Place, explained, meant_twice, towers_touched, unmatched
from lora_cli.targets.names import is_meant
from lora_cli.targets.written import Written, read_targets
from tests.helpers.architectures import model_of

BaseOf = Callable[[str], BaseModelFacts]


@pytest.fixture(scope="module")
def vision() -> BaseModelFacts:
    model, task = model_of("qwen2_5_vl")
    return facts_of(model, ModelSource("folder", Path("nowhere"), "", "none"), task)


def test_what_a_pattern_means_and_passes_by(base_of: BaseOf) -> None:
    (found,) = explained(read_targets(["layers.0.self_attn.[qk]_proj"]), base_of("llama"))
    assert found.modules == 2
    assert found.regex == r"(?:.*\.)?layers\.0\.self_attn\.[qk]_proj"
    assert found.places == (
        Place("model.layers.*.self_attn.q_proj", 1, "0"),
        Place("model.layers.*.self_attn.k_proj", 1, "0"),
    )
    assert [each.layers for each in found.passed_by] == ["1", "1"]


def test_a_preset_speaks_for_itself(base_of: BaseOf) -> None:
    assert explained([Written("attention", "preset")], base_of("llama")) == ()


def test_what_is_meant_twice(base_of: BaseOf) -> None:
    (found,) = meant_twice(read_targets(["q_proj,*.self_attn.q_*,v_proj"]), base_of("llama"))
    assert found.place == Place("model.layers.*.self_attn.q_proj", 2, "0-1")
    assert found.patterns == ("q_proj", "*.self_attn.q_*")


@pytest.mark.parametrize(
    ("typed", "message", "hint"),
    [
        (
            "*.self_atn.q_proj",
            "`*.self_atn.q_proj` matches no linear layer of LlamaForCausalLM",
            "the nearest are `model.layers.*.self_attn.q_proj`",
        ),
        (
            ".*self_attn.q_proj",
            "`.*self_attn.q_proj` matches no linear layer of LlamaForCausalLM",
            "as a regular expression it matches 2: write '{regex: .*self_attn.q_proj}'",
        ),
        (
            "(visual|vision).*",
            "`(visual|vision).*` matches no linear layer of LlamaForCausalLM",
            "the nearest are `model.layers.*.",
        ),
    ],
)
def test_a_pattern_that_means_nothing(base_of: BaseOf, typed: str, message: str, hint: str) -> None:
    (problem,) = unmatched(read_targets([typed]), base_of("llama"))
    assert (problem.message, str(problem.where)) == (message, "--targets")
    assert problem.hint.startswith(hint)


def test_one_of_several_that_means_nothing_is_told(base_of: BaseOf) -> None:
    problems = unmatched(read_targets(["q_proj,v_porj,*.mlp.*"]), base_of("llama"))
    (problem,) = problems
    assert problem.message == "`v_porj` matches no linear layer of LlamaForCausalLM"
    assert "`model.layers.*.self_attn.v_proj`" in problem.hint


def test_a_list_of_names_is_left_to_who_knows_more(base_of: BaseOf) -> None:
    assert unmatched(read_targets(["v_porj"]), base_of("llama")) == []


def test_a_tower_that_nobody_named(vision: BaseModelFacts) -> None:
    written = read_targets(["all-linear"])
    found = towers_touched(choose(Lora(rank=4), vision, Source("")), vision, written)
    assert {each.tower: each.modules for each in found} == {"vision": 10, "connector": 2}
    assert not any(each.asked_for for each in found)
    assert all(each.trainable > 0 for each in found)


def test_what_leaves_a_tower_out_does(vision: BaseModelFacts) -> None:
    choice = choose(Lora(rank=4), vision, Source(""))
    towers = towers_touched(choice, vision, read_targets(["all-linear"]))
    names = [each.name for each in vision.linears]
    left = names
    for tower in towers:
        (written,) = read_targets([f"{{regex: {tower.leave_out}}}"])
        left = [name for name in left if not is_meant(name, written.meaning)]
    assert left == [name for name in names if name.startswith("model.language_model.")]


def test_a_tower_that_was_named(vision: BaseModelFacts) -> None:
    written = read_targets(["*.visual.blocks.*.qkv"])
    spec = Lora(target_modules=written[0].meaning)
    (found,) = towers_touched(choose(spec, vision, Source("")), vision, written)
    assert (found.tower, found.asked_for) == ("vision", True)


def test_a_model_that_is_all_of_one_tower_has_none(base_of: BaseOf) -> None:
    model, task = model_of("vit")
    base = facts_of(model, ModelSource("folder", Path("nowhere"), "", "none"), task)
    assert towers_touched(choose(Lora(), base, Source("")), base, ()) == ()
    base = base_of("llama")
    assert towers_touched(choose(Lora(), base, Source("")), base, ()) == ()
