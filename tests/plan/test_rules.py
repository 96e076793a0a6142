"""Each rule that stops a plan: its words, its place, and what passes it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lora_cli.errors import PlanError, Problem
from lora_cli.plan.inputs import Facts
from lora_cli.plan.resolve import resolve_plan
from lora_cli.recipe.load import LoadedRecipe

Probed = Callable[..., tuple[LoadedRecipe, Facts]]
GPU = {"device": "cuda", "name": "A GPU", "fast_bfloat16": True}
OLD_GPU = {**GPU, "fast_bfloat16": False}


def problems_of(probed: tuple[LoadedRecipe, Facts], **machine: Any) -> tuple[Problem, ...]:
    loaded, facts = probed
    facts = replace(facts, machine=replace(facts.machine, **machine))
    try:
        resolve_plan(loaded, facts)
    except PlanError as error:
        return error.problems
    return ()


def the_problem(probed: tuple[LoadedRecipe, Facts], **machine: Any) -> tuple[str, str, str]:
    (problem,) = problems_of(probed, **machine)
    assert problem.where.line > 0 or problem.where.file.startswith("--set")
    return problem.where.key, problem.message, problem.hint


def with_base(probed: tuple[LoadedRecipe, Facts], **base: Any) -> tuple[LoadedRecipe, Facts]:
    loaded, facts = probed
    return loaded, replace(facts, base=replace(facts.base, **base))


def with_weights(probed: tuple[LoadedRecipe, Facts], kind: str) -> tuple[LoadedRecipe, Facts]:
    return with_base(probed, source=replace(probed[1].base.source, weights=kind))


def test_a_plan_without_a_problem(probed: Probed) -> None:
    assert problems_of(probed()) == ()


def test_rows_longer_than_the_context(probed: Probed) -> None:
    assert the_problem(probed(training={"max_length": 257})) == (
        "training.max_length",
        "`training.max_length` is over the model's context of 256 tokens",
        "at most 256",
    )
    assert problems_of(probed(training={"max_length": 256})) == ()
    assert problems_of(probed("llama", "training.max_length=300"))[0].where.file.startswith("--s")


def test_a_default_longer_than_the_context_is_shortened(probed: Probed) -> None:
    loaded, facts = probed()
    plan = resolve_plan(loaded, facts)
    assert plan.data.max_length == 256
    decision = next(d for d in plan.decisions if d.field == "training.max_length")
    assert (decision.value, decision.reason) == ("256", "the model's context")


def test_a_tokenizer_of_another_model(probed: Probed) -> None:
    highest = probed()[1].dataset.highest_token_id
    key, message, hint = the_problem(with_base(probed(), vocabulary=highest))
    assert key == "model.name"
    assert message == f"the tokenizer writes token {highest}, but the model knows {highest} tokens"
    assert hint.endswith("is another model's")
    assert problems_of(with_base(probed(), vocabulary=highest + 1)) == ()


def test_a_revision_of_a_local_model(probed: Probed) -> None:
    assert the_problem(probed("llama", "model.revision=main")) == (
        "model.revision",
        "`model.revision` is for models on the hub; this one is a local folder",
        "remove it",
    )


def test_pickle_weights_are_refused_unless_allowed(probed: Probed) -> None:
    assert the_problem(with_weights(probed(), "pickle")) == (
        "model.name",
        "the model has pickle weights (.bin) only, and opening them can run code",
        "use a safetensors version, or set `model.allow_pickle: true` if you trust the file",
    )
    assert problems_of(with_weights(probed("llama", "model.allow_pickle=true"), "pickle")) == ()


def test_a_model_without_weights(probed: Probed) -> None:
    key, message, hint = the_problem(with_weights(probed(), "none"))
    assert key == "model.name"
    assert message.startswith("no weights are among the files of `")
    assert "model.safetensors" in hint


def test_float16_on_a_cpu(probed: Probed) -> None:
    half = probed("llama", "model.dtype=float16")
    assert the_problem(half, device="cpu") == (
        "model.dtype",
        "float16 does not train on a CPU",
        "use bfloat16 or float32",
    )
    assert problems_of(half, **GPU) == ()


def test_bfloat16_on_a_gpu_without_it(probed: Probed) -> None:
    bfloat = probed("llama", "model.dtype=bfloat16")
    assert the_problem(bfloat, **OLD_GPU) == (
        "model.dtype",
        "A GPU has no bfloat16",
        "use float16 or float32",
    )
    assert problems_of(bfloat, **GPU) == ()
    assert problems_of(bfloat, device="cpu", fast_bfloat16=False) == ()


def test_flash_attention_needs_a_gpu_and_its_package(
    probed: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    flash = probed("llama", "model.attention=flash_attention_2")
    key, message, hint = the_problem(flash, device="cpu")
    assert (key, message, hint) == ("model.attention", "flash_attention_2 needs a GPU", "use sdpa")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert the_problem(flash, **GPU)[1:] == (
        "flash_attention_2 needs the package flash-attn",
        "pip install flash-attn, or use sdpa",
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    assert problems_of(flash, **GPU) == ()


def test_a_kernel_that_the_architecture_does_not_know(probed: Probed) -> None:
    chosen = with_base(probed("llama", "model.attention=sdpa"), attention_kernels=("eager",))
    assert the_problem(chosen) == (
        "model.attention",
        "LlamaForCausalLM has no sdpa",
        "use eager",
    )


def test_a_system_prompt_for_rows_that_are_no_conversations(probed: Probed) -> None:
    loaded, facts = probed(dataset=["rows.jsonl", {"path": "rows.jsonl", "system_prompt": "Be."}])
    assert problems_of((loaded, facts)) == ()
    pairs = tuple(replace(source, format="prompt_completion") for source in facts.dataset.sources)
    changed = replace(facts, dataset=replace(facts.dataset, sources=pairs))
    assert the_problem((loaded, changed)) == (
        "dataset[1].system_prompt",
        "a system prompt is for conversations, but the rows are prompt_completion",
        "remove it, or write it into the prompts",
    )


def test_several_processes(probed: Probed) -> None:
    (problem,) = problems_of(probed(), processes=2)
    assert str(problem) == (
        "2 processes are launched (WORLD_SIZE): several processes are not part of this version "
        "(start loracli itself, without a launcher)"
    )


def test_all_broken_rules_are_told_at_once(probed: Probed) -> None:
    flags = ["model.dtype=float16", "model.revision=main", "training.max_length=999"]
    broken = with_weights(probed("llama", *flags), "pickle")
    assert [problem.where.key for problem in problems_of(broken, device="cpu", processes=4)] == [
        "training.max_length",
        "model.revision",
        "model.name",
        "model.dtype",
        "",
    ]


@pytest.mark.parametrize(
    ("architecture", "adapter", "expected"),
    [
        (
            "llama",
            {"variant": "oft", "block_size": 12},
            (
                "adapter.block_size",
                "blocks of 12 do not divide the 32 inputs of `model.layers.0.self_attn.q_proj`",
                "use 8",
            ),
        ),
        (
            "llama",
            {"variant": "miss"},
            (
                "adapter.rank",
                "a rank of 64 is over the 32 inputs of `model.layers.0.self_attn.q_proj`",
                "use at most 32",
            ),
        ),
        (
            "llama",
            {"variant": "ia3", "feedforward_modules": ["down"]},
            (
                "adapter.feedforward_modules",
                "`down` is none of the adapted modules",
                "name one of them, or leave the field out",
            ),
        ),
        (
            "gpt2",
            {"variant": "loha"},
            (
                "adapter.variant",
                (
                    "loha on GPT2LMHeadModel: no code for weights held as (in, out): use lora or "
                    "vera, or an int8 base"
                ),
                "",
            ),
        ),
    ],
)
def test_a_method_that_does_not_fit_the_base(
    probed: Probed, architecture: str, adapter: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert the_problem(probed(architecture, adapter=adapter)) == expected


def test_virtual_tokens_take_up_the_context(probed: Probed) -> None:
    adapter = {"variant": "prompt_tuning", "virtual_tokens": 50}
    assert the_problem(probed(adapter=adapter, training={"max_length": 207})) == (
        "training.max_length",
        "`training.max_length` is over the model's context of 256 tokens less 50 virtual ones",
        "at most 206",
    )
    assert problems_of(probed(adapter=adapter, training={"max_length": 206})) == ()
    assert resolve_plan(*probed(adapter=adapter)).data.max_length == 206


@pytest.mark.parametrize("variant", ["prompt_tuning", "p_tuning", "prefix_tuning"])
def test_recomputed_activations_know_no_prefix(probed: Probed, variant: str) -> None:
    recipe = probed(adapter=variant, training={"gradient_checkpointing": True})
    if variant == "prefix_tuning":
        key, message, hint = the_problem(recipe)
        assert key == "training.gradient_checkpointing"
        assert message.startswith("a prefix stands in the cache of keys and values")
        assert hint == "set it to false, or use prompt_tuning or p_tuning"
    else:
        assert problems_of(recipe) == ()
