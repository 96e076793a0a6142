"""The base model and the adapter of a plan: what `auto` comes to, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lora_cli.plan.inputs import Facts
from lora_cli.plan.resolve import resolve_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe

Probed = Callable[..., tuple[LoadedRecipe, Facts]]
CPU = {"device": "cpu", "fast_bfloat16": False}
CUDA = {"device": "cuda", "fast_bfloat16": False}


def resolved(probed: tuple[LoadedRecipe, Facts], longest: int = 60, **machine: Any) -> RunPlan:
    loaded, facts = probed
    train = facts.dataset.train.model_copy(update={"longest": longest})
    facts = replace(
        facts,
        machine=replace(facts.machine, **machine),
        dataset=replace(facts.dataset, train=train),
    )
    return resolve_plan(loaded, facts)


def decision(plan: RunPlan, field: str) -> tuple[str, str]:
    found = next(d for d in plan.decisions if d.field == field)
    return found.value, found.reason


def open_model(probed: Probed, **model: str) -> tuple[LoadedRecipe, Facts]:
    """Return a recipe that leaves the model's options open, or writes them as given."""
    name = probed()[0].recipe.model.name
    return probed(model={"name": name, **model}) if model else probed(model=name)


@pytest.mark.parametrize("written", [{}, {"dtype": "auto"}])
@pytest.mark.parametrize(
    ("machine", "dtype", "reason"),
    [
        ({**CPU, "fast_bfloat16": True}, "bfloat16", "this cpu computes bfloat16 in hardware"),
        ({**CUDA, "fast_bfloat16": True}, "bfloat16", "this cuda computes bfloat16 in hardware"),
        (CPU, "float32", "this CPU has no bfloat16 instructions"),
        (CUDA, "float16", "this GPU has no bfloat16"),
    ],
)
def test_a_dtype_that_is_left_open_has_the_measured_reason(
    probed: Probed, written: dict[str, str], machine: Any, dtype: str, reason: str
) -> None:
    plan = resolved(open_model(probed, **written), **machine)
    assert plan.model.dtype == dtype
    assert decision(plan, "model.dtype") == (dtype, reason)


def test_a_dtype_that_is_written_has_its_line(probed: Probed) -> None:
    plan = resolved(open_model(probed, dtype="float32"), device="cuda", fast_bfloat16=True)
    assert decision(plan, "model.dtype") == ("float32", "recipe.yaml:3")


@pytest.mark.parametrize("written", [{}, {"attention": "auto"}])
@pytest.mark.parametrize(
    ("device", "longest", "kernel", "reason"),
    [
        ("cpu", 512, "eager", "no row has over 512 tokens: measured faster on a CPU"),
        ("cpu", 513, "sdpa", "torch's own fused kernel"),
        ("cuda", 512, "sdpa", "torch's own fused kernel"),
    ],
)
def test_attention_is_a_matter_of_device_and_rows(
    probed: Probed, written: dict[str, str], device: str, longest: int, kernel: str, reason: str
) -> None:
    plan = resolved(open_model(probed, **written), longest=longest, device=device)
    assert plan.model.attention == kernel
    assert decision(plan, "model.attention") == (kernel, reason)


def test_a_long_row_of_the_evaluation_counts_too(probed: Probed) -> None:
    loaded, facts = probed(evaluation=0.25)
    assert facts.dataset.evaluation is not None
    apart = facts.dataset.evaluation.model_copy(update={"longest": 600})
    long = replace(facts, dataset=replace(facts.dataset, evaluation=apart))
    assert resolved((loaded, facts), device="cpu").model.attention == "eager"
    assert resolved((loaded, long), device="cpu").model.attention == "sdpa"


def test_an_architecture_without_sdpa(probed: Probed) -> None:
    loaded, facts = probed()
    base = replace(facts.base, attention_kernels=("eager",))
    plan = resolved((loaded, replace(facts, base=base)), longest=9000)
    assert decision(plan, "model.attention") == ("eager", "LlamaForCausalLM has no sdpa")


def test_attention_that_is_written_is_taken(probed: Probed) -> None:
    plan = resolved(open_model(probed, attention="sdpa"), device="cpu")
    assert decision(plan, "model.attention") == ("sdpa", "recipe.yaml:3")


def test_the_adapter_is_filled_in(probed: Probed) -> None:
    plan = resolved(probed(adapter={"variant": "rslora", "rank": 4}))
    assert plan.adapter.spec.alpha == 16
    assert plan.adapter.spec.scaling == 8
    assert decision(plan, "adapter.alpha") == ("16", "rslora's default")
    assert decision(plan, "adapter.scaling") == ("8", "alpha / √rank")
    assert decision(plan, "adapter.rank") == ("4", "recipe.yaml:6")
    assert len(plan.adapter.modules) == 14
    attention = 4 * ((32 + 32) + (32 + 16) + (32 + 16) + (32 + 32))
    mlp = 4 * 3 * (32 + 64)
    assert plan.adapter.trainable_parameters == 2 * (attention + mlp)
    modules = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    assert decision(plan, "adapter.target_modules") == (modules, "default")


def test_the_model_is_what_was_probed(probed: Probed) -> None:
    loaded, facts = probed("gpt2")
    model = resolved((loaded, facts)).model
    assert (model.architecture, model.model_type) == ("GPT2LMHeadModel", "gpt2")
    assert model.fingerprint == facts.base.source.fingerprint
    assert model.tokenizer_sha256 == facts.tokenizer_sha256
    assert model.chat_template_sha256 == facts.chat_template_sha256
    assert (model.context_length, model.tied_embeddings) == (256, True)
    assert model.parameters == facts.base.parameters


def test_quantization_is_settled(probed: Probed) -> None:
    plan = resolved(probed(quantization="nf4"))
    assert decision(plan, "quantization.method")[1].startswith("recipe.yaml:")
    assert decision(plan, "quantization.compute_dtype") == ("float32", "the model's dtype")
    assert decision(plan, "quantization.double_quantization") == ("true", "default")
    named = resolved(probed("llama", "quantization.compute_dtype=bfloat16", quantization="nf4"))
    assert decision(named, "quantization.compute_dtype") == ("bfloat16", "--set")
    assert decision(resolved(probed()), "quantization.method") == ("none", "default")


def test_qlora_fills_in_what_the_recipe_leaves_out(probed: Probed) -> None:
    plan = resolved(probed(adapter="qlora"))
    assert plan.adapter.spec.variant == "qlora"
    assert plan.quantization.model_dump() == {
        "method": "nf4",
        "full_precision_modules": (),
        "double_quantization": True,
        "compute_dtype": "float32",
    }
    reason = "qlora is LoRA on a 4-bit base"
    assert decision(plan, "quantization.method") == ("nf4", reason)
    assert decision(plan, "quantization.double_quantization") == ("true", reason)
    assert decision(plan, "quantization.compute_dtype") == ("float32", "the model's dtype")
    assert plan.optimizer.name == "paged_adamw"
    assert decision(plan, "training.optimizer.name") == (
        "paged_adamw",
        "qlora has a paged optimizer",
    )


def test_what_a_qlora_recipe_says_itself_stands(probed: Probed) -> None:
    plan = resolved(
        probed(
            adapter={"variant": "qlora", "rank": 4},
            quantization={"method": "fp4", "double_quantization": False},
            training={"optimizer": "adamw_8bit"},
        )
    )
    written = {
        "quantization.method": "fp4",
        "quantization.double_quantization": "false",
        "training.optimizer.name": "adamw_8bit",
    }
    for field, expected in written.items():
        value, reason = decision(plan, field)
        assert value == expected
        assert reason.startswith("recipe.yaml:")


def test_a_qlora_adapter_is_a_lora(probed: Probed) -> None:
    qlora, lora = (
        resolved(probed(adapter={"variant": variant, "rank": 4}, quantization="nf4")).adapter
        for variant in ("qlora", "lora")
    )
    assert qlora.trainable_parameters == lora.trainable_parameters
    configs = [each.spec.peft_config(list(each.peft_names)).to_dict() for each in (qlora, lora)]
    assert configs[0] == configs[1]


def test_what_stays_in_full_precision_is_said_with_the_head(probed: Probed) -> None:
    field = "quantization.full_precision_modules"
    assert decision(resolved(probed(quantization="nf4")), field) == (
        "lm_head",
        "the output head, always",
    )
    named = resolved(probed("llama", f"{field}=[o_proj, lm_head]", quantization="int8"))
    assert decision(named, field) == ("o_proj, lm_head", "--set")
    assert named.model.heads == ("lm_head",)


def test_lora_fa_trains_b_alone(probed: Probed) -> None:
    adapter = {"variant": "rslora", "rank": 4}
    whole = resolved(probed(adapter=adapter))
    plan = resolved(probed("llama", "training.optimizer=lora_fa", adapter=adapter))
    inputs = 4 * 2 * (4 * 32 + 2 * 32 + 64)
    assert plan.adapter.trainable_parameters == whole.adapter.trainable_parameters - inputs
    value, reason = decision(plan, "adapter.trainable_parameters")
    assert value == f"{plan.adapter.trainable_parameters:,}"
    assert reason == "those of B: lora_fa freezes A"
