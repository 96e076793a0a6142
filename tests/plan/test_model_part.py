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
