"""Which variants take a choice: as the plan would say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft.tuners.tuners_utils import _check_lora_target_modules_mamba

from lora_cli.adapters.lora import Lora
from lora_cli.adapters.targeted import TargetedSpec
from lora_cli.adapters.vera import Vera
from lora_cli.facts.base_model import BaseModelFacts, facts_of
from lora_cli.facts.model_source import ModelSource
from lora_cli.quantization.bitsandbytes import FourBit
from lora_cli.quantization.none import Unquantized
from lora_cli.recipe.source import Source
from lora_cli.targets.cost import choose
from lora_cli.targets.presets import preset_costs
from lora_cli.targets.support import VARIANTS, as_variant, refusals, supported_by
from tests.helpers.architectures import model_of

BaseOf = Callable[[str], BaseModelFacts]
NONE, NF4 = Unquantized(), FourBit(method="nf4")


def taking(base: BaseModelFacts, held: Any = NONE, **fields: Any) -> dict[str, str]:
    choice = choose(Lora(**fields), base, Source(""))
    return {each.variant: each.why_not for each in supported_by(choice, base, held)}


def test_every_variant_is_asked(base_of: BaseOf) -> None:
    found = taking(base_of("llama"))
    assert len(found) == len(VARIANTS) == 24
    assert found["lora"] == found["dora"] == found["vera"] == ""
    assert "takes no modules" in found["prompt_tuning"]
    assert "nothing is quantized here" in found["loftq"]


def test_a_quantized_base_has_other_variants(base_of: BaseOf) -> None:
    found = taking(base_of("llama"), NF4)
    assert found["qlora"] == found["loftq"] == ""
    assert found["loha"].startswith("no code for packed weights")


def test_gpt2_s_layers(base_of: BaseOf) -> None:
    found = taking(base_of("gpt2"))
    assert found["oft"].startswith("no code for weights held as (in, out)")
    assert taking(base_of("gpt2"), NF4)["oft"] == "", "quantizing turns them round"


def test_experts_and_ends_are_for_few(base_of: BaseOf) -> None:
    experts = taking(base_of("mixtral"), target_modules="attention", target_parameters="experts")
    assert {name for name, why_not in experts.items() if not why_not} == {"lora", "rslora"}
    ends = taking(base_of("llama"), target_modules=("lm_head",))
    assert ends["dora"] == "not part of this version; use lora or rslora"
    tied = taking(base_of("tied_llama"), target_modules=("lm_head",))
    assert (
        tied["lora"] == "`lm_head` is embedding and output head in one: merged, both would change"
    )


def test_sizes_that_a_method_cannot_use(base_of: BaseOf) -> None:
    assert taking(base_of("llama"), rank=64)["pissa"].startswith("pissa starts `model.layers.0.")


def test_another_variant_keeps_modules_and_rank(base_of: BaseOf) -> None:
    spec = as_variant(Vera, Lora(rank=8, target_modules=("q_proj",), layers=(1,), alpha=3.0))
    assert isinstance(spec, Vera)
    assert (spec.rank, spec.target_modules, spec.layers) == (8, ("q_proj",), (1,))
    assert as_variant(Vera, Lora()).model_dump() == Vera().model_dump()


def test_names_that_peft_takes_for_experts(base_of: BaseOf) -> None:
    base = base_of("qwen3_moe")
    (why_not,) = refusals(choose(Lora(), base, Source("")), base, NONE)
    assert why_not.startswith("peft takes `model.layers.0.mlp.gate_proj` for a part of the experts")


@pytest.fixture(scope="module")
def mamba() -> BaseModelFacts:
    model, task = model_of("mamba")
    return facts_of(model, ModelSource("folder", Path("nowhere"), "", "none"), task)


def test_layers_that_peft_refuses_are_refused_with_what_to_write(mamba: BaseModelFacts) -> None:
    found = taking(mamba)
    for variant in ("lora", "adalora", "randlora"):
        assert found[variant].startswith("peft refuses `backbone.layers.0.mixer.out_proj`")
    assert "`exclude_modules: [out_proj]`" in found["lora"]
    assert found["vera"] == ""
    assert taking(mamba, exclude_modules=("out_proj",))["lora"] == ""
    named = taking(mamba, target_modules=("in_proj", "out_proj"))
    assert "take `out_proj` out of `target_modules`" in named["lora"]


def test_the_variants_that_are_refused_are_those_that_peft_refuses(mamba: BaseModelFacts) -> None:
    model, _ = model_of("mamba")
    found = taking(mamba)
    for kind in (each for each in VARIANTS if issubclass(each, TargetedSpec)):
        spec = kind.model_validate({"variant": kind.names()[0]})
        setting = choose(Lora(target_modules=("out_proj",)), mamba, Source("")).setting
        config = spec.settled(setting).peft_config(["out_proj"])
        try:
            _check_lora_target_modules_mamba(config, model, "out_proj")
        except ValueError:
            assert found[kind.names()[0]], kind
        else:
            assert "peft refuses" not in found[kind.names()[0]]


def test_weights_that_others_have_quantized_are_refused(base_of: BaseOf) -> None:
    base = replace(base_of("llama"), quantized_by="gptq")
    assert taking(base)["lora"] == "the model's files hold weights that gptq has quantized"


def test_presets_cost_what_their_choices_do(base_of: BaseOf) -> None:
    costs = {each.name: each for each in preset_costs(Lora(rank=4), base_of("llama"), NONE)}
    assert list(costs) == ["attention", "mlp", "all-linear", "all-linear + embeddings"]
    assert costs["attention"].modules == 8
    both = costs["attention"].trainable + costs["mlp"].trainable
    assert costs["all-linear"].trainable == both
    whole = costs["all-linear + embeddings"].trainable - both
    assert whole == 2 * 259 * 32
    assert 0 < costs["attention"].share < costs["all-linear"].share < 1


def test_presets_of_experts_are_for_models_that_have_them(base_of: BaseOf) -> None:
    base = base_of("mixtral")
    costs = {each.name: each for each in preset_costs(Lora(rank=4), base, NONE)}
    assert costs["attention + experts"].parameters == 4
    assert costs["mlp"].why_not == "`mlp` matches no linear layer of MixtralForCausalLM"
    vera = {each.name: each for each in preset_costs(Vera(), base, NONE)}
    assert "peft has it for linear layers alone" in vera["attention + experts"].why_not


def test_a_preset_is_of_the_model_and_not_of_the_recipe(base_of: BaseOf) -> None:
    narrowed = Lora(rank=4, layers=(0,), exclude_modules=("q_proj",), modules_to_save=("lm_head",))
    plain, base = Lora(rank=4), base_of("llama")
    assert preset_costs(narrowed, base, NONE) == preset_costs(plain, base, NONE)


@pytest.mark.parametrize("variant", ["prompt_tuning", "prefix_tuning", "p_tuning"])
def test_no_presets_without_modules(base_of: BaseOf, variant: str) -> None:
    (kind,) = [each for each in VARIANTS if each.names() == (variant,)]
    assert preset_costs(as_variant(kind, Lora()), base_of("llama"), NONE) == ()
