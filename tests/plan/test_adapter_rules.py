"""What an adapter's fields cannot be on this base: refused in the plan, at their places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_cli.errors import PlanError
from lora_cli.plan.make import make_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import load_recipe

Planned = Callable[..., RunPlan]


@pytest.fixture
def refused(recipe_file: Callable[..., Path]) -> Callable[..., list[str]]:
    """Return the problems of an adapter, each as `key: message (hint)`."""

    def problems(architecture: str = "llama", *flags: str, **adapter: Any) -> list[str]:
        variant = {"variant": "lora", "rank": 4}
        recipe = recipe_file(architecture, adapter={**variant, **adapter})
        with pytest.raises(PlanError) as caught:
            make_plan(load_recipe(recipe, flags))
        return [
            f"{problem.where.key}: {problem.message}" + f" ({problem.hint})" * bool(problem.hint)
            for problem in caught.value.problems
        ]

    return problems


Refused = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"allocation_start": 90}, "allocation_start"),
        ({"allocation_start": 0, "allocation_end": 90}, "allocation_end"),
        ({"initial_rank": 3}, "initial_rank"),
    ],
)
def test_a_schedule_of_ranks_is_refused_where_it_is_written(
    refused: Refused, fields: dict[str, int], key: str
) -> None:
    (problem,) = refused("llama", "training.steps=20", variant="adalora", **fields)
    assert problem.startswith(f"adapter.{key}: ")


@pytest.mark.parametrize(
    ("adapter", "problem"),
    [
        (
            {"rank_pattern": {"q_proj": 8, "proj": 2}},
            (
                "adapter.rank_pattern.proj: `proj` matches no module that is adapted (it must "
                "match the end of a name, such as `model.layers.0.self_attn.q_proj`, from a dot "
                "on)"
            ),
        ),
        (
            {"alpha_pattern": {"lm_head": 3}},
            (
                "adapter.alpha_pattern.lm_head: `lm_head` matches no module that is adapted (it "
                "must match the end of a name, such as `model.layers.0.self_attn.q_proj`, from a "
                "dot on)"
            ),
        ),
        (
            {"rank_pattern": {"q_proj": 8, "layers.0.*": 2}},
            (
                "adapter.rank_pattern.layers.0.*: `q_proj` and `layers.0.*` both match "
                "`model.layers.0.self_attn.q_proj` (let each module match one pattern only)"
            ),
        ),
        (
            {"trainable_tokens": [256], "modules_to_save": ["embed_tokens"]},
            (
                "adapter.trainable_tokens: `modules_to_save` names `model.embed_tokens` already, "
                "with all its tokens (keep one of the two)"
            ),
        ),
        (
            {"trainable_tokens": [256], "target_modules": ["embed_tokens"]},
            (
                "adapter.trainable_tokens: `target_modules` names `model.embed_tokens` already, "
                "with all its tokens (keep one of the two)"
            ),
        ),
        (
            {"variant": "adalora", "rank_pattern": {"q_proj": 2}},
            (
                "adapter.rank_pattern: `rank_pattern` with adalora: it shares the ranks out "
                "itself; use lora to give them"
            ),
        ),
        (
            {"variant": "dora", "target_modules": ["q_proj", "embed_tokens"]},
            (
                "adapter.target_modules: dora on `model.embed_tokens`: not part of this "
                "version; use lora or rslora (to train it, name it in "
                "`modules_to_save`, or single tokens in `trainable_tokens`)"
            ),
        ),
        (
            {"variant": "vera", "target_modules": ["q_proj", "lm_head"]},
            (
                "adapter.target_modules: vera on `lm_head`: not part of this version; use "
                "lora or rslora (to train it, name it in `modules_to_save`, or "
                "single tokens in `trainable_tokens`)"
            ),
        ),
    ],
)
def test_a_problem_and_its_words(refused: Refused, adapter: dict[str, Any], problem: str) -> None:
    assert refused(**adapter) == [problem]


def test_patterns_that_agree_may_overlap(planned: Planned) -> None:
    """peft takes the first pattern that matches, and its file keeps no order."""
    patterns = {"q_proj": 8, r"layers\.0\.self_attn\.q_proj": 8, "v_proj": 2}
    adapter = {"variant": "lora", "rank": 4, "rank_pattern": patterns}
    plan = planned(adapter=adapter)
    assert plan.adapter.trainable_parameters == 2 * (8 * 64 + 2 * 48 + 4 * (48 + 64 + 3 * 96))


@pytest.mark.parametrize("name", ["embed_tokens", "lm_head"])
def test_adapters_on_tied_embeddings(refused: Refused, name: str) -> None:
    (problem,) = refused("tied_llama", target_modules=["q_proj", name])
    full = {"embed_tokens": "model.embed_tokens"}.get(name, name)
    assert problem == (
        f"adapter.target_modules: `{full}` is embedding and output head in one: merged, both would "
        "change (to train it, name it in `modules_to_save`, or single tokens in "
        "`trainable_tokens`)"
    )


def test_tied_embeddings_are_trained_as_a_whole_where_peft_ties_the_copies(
    planned: Planned, refused: Refused
) -> None:
    saved = {"modules_to_save": ["embed_tokens"]}
    plan = planned("tied_llama", adapter={"variant": "dora", "rank": 4, **saved})
    spec: Any = plan.adapter.spec
    assert spec.modules_to_save == ("model.embed_tokens", "lm_head")
    (problem,) = refused("tied_llama", variant="vera", **saved)
    assert problem == (
        "adapter.modules_to_save: with vera, `model.embed_tokens` and the output head, which are "
        "one weight, would be two copies that part in training (use lora, or train other modules "
        "as a whole)"
    )
    norm = {"variant": "vera", "modules_to_save": ["norm"]}
    assert planned("tied_llama", adapter=norm).adapter.spec.summary()


def test_what_is_quantized_is_not_trained_as_a_whole(planned: Planned, refused: Refused) -> None:
    nf4 = "quantization=nf4"
    (problem,) = refused("llama", nf4, modules_to_save=["layers.1.mlp", "lm_head", "norm"])
    assert problem == (
        "adapter.modules_to_save: `model.layers.1.mlp.gate_proj` is held in nf4 and cannot be "
        "trained (name it in `quantization.full_precision_modules` too)"
    )
    adapter = {"variant": "lora", "modules_to_save": ["layers.1.mlp", "lm_head", "norm"]}
    kept = "quantization.full_precision_modules=[layers.1.mlp]"
    plan = planned("llama", "quantization={method: nf4}", kept, adapter=adapter)
    assert plan.quantization.method == "nf4"


EXPERTS = {"target_parameters": "experts"}


@pytest.mark.parametrize(
    ("flags", "adapter", "problem"),
    [
        (
            [],
            {"variant": "dora"},
            (
                "adapter.target_parameters: dora on fused experts: peft has it for linear layers "
                "alone; use lora or rslora"
            ),
        ),
        (
            [],
            {"dropout": 0.1},
            (
                "adapter.dropout: what `target_parameters` names is adapted without dropout (set "
                "`dropout: 0`: it drops inputs, and there is no layer here)"
            ),
        ),
        (
            ["training.optimizer=lora_fa"],
            {},
            (
                "training.optimizer.name: lora_fa has no correction for several experts in one "
                "tensor (use adamw)"
            ),
        ),
    ],
)
def test_experts_that_cannot_be_adapted(
    refused: Refused, flags: list[str], adapter: dict[str, Any], problem: str
) -> None:
    assert refused("mixtral", *flags, **EXPERTS, **adapter) == [problem]


def test_frozen_a_and_the_embedding(refused: Refused) -> None:
    (problem,) = refused("llama", "training.optimizer=lora_fa", target_modules=["embed_tokens"])
    assert problem == (
        "training.optimizer.name: lora_fa has no correction for `model.embed_tokens` (use adamw)"
    )


def test_layers_that_peft_takes_for_experts(planned: Planned, refused: Refused) -> None:
    (problem,) = refused("dense_moe")
    assert problem == (
        "adapter.target_modules: on Qwen3MoeForCausalLM peft takes `model.layers.0.mlp.gate_proj` "
        "for a part of the experts (leave such layers out: `exclude_modules: [gate_proj, up_proj, "
        "down_proj]`)"
    )
    leaves = ["gate_proj", "up_proj", "down_proj"]
    adapter = {"variant": "lora", "rank": 4, "exclude_modules": leaves}
    assert len(planned("dense_moe", adapter=adapter).adapter.modules) == 8
    loha = planned("dense_moe", adapter={"variant": "loha", "rank": 4})
    assert "model.layers.0.mlp.gate_proj" in loha.adapter.modules, "peft rewrites LoRA's names only"


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (
            "What is",
            (
                "adapter.trainable_tokens[1]: `What is` is 7 tokens: W h a t Ġ … (name those "
                "that are to be trained, each by itself or by its id)"
            ),
        ),
        (
            259,
            (
                "adapter.trainable_tokens[1]: token 259 is not in the model's vocabulary "
                "(LlamaForCausalLM has 259 tokens, from 0)"
            ),
        ),
        (
            "<|im_end|>",
            (
                "adapter.trainable_tokens[1]: token 257 is the model's padding, whose embedding "
                "gets no gradient (give the model's config.json another `pad_token_id`, or leave "
                "it out)"
            ),
        ),
        (
            "<|im_start|>",
            (
                "adapter.trainable_tokens[1]: `<|im_start|>` is token 256, which is there already "
                "(remove one of the two)"
            ),
        ),
    ],
)
def test_what_is_no_token_to_train(refused: Refused, token: str | int, problem: str) -> None:
    assert refused(trainable_tokens=[256, token]) == [problem]


def test_tokens_are_trained_by_their_ids(planned: Planned) -> None:
    tokens = ["<|im_start|>", "Ġ", "a", 3]
    plan = planned(adapter={"variant": "lora", "rank": 4, "trainable_tokens": tokens})
    spec: Any = plan.adapter.spec
    ids = spec.trainable_tokens
    assert len(ids) == 4
    assert {3, 256} < set(ids)
    assert list(ids) == sorted(ids)
    alone = planned(adapter={"variant": "lora", "rank": 4})
    more = plan.adapter.trainable_parameters - alone.adapter.trainable_parameters
    assert more == 4 * 32


def test_padding_is_trained_where_the_head_trains_it(planned: Planned) -> None:
    adapter = {"variant": "lora", "rank": 4, "trainable_tokens": ["<|im_end|>"]}
    spec: Any = planned("tied_llama", adapter=adapter).adapter.spec
    assert spec.trainable_tokens == (257,)


def decision(plan: RunPlan, field: str) -> tuple[str, str]:
    found = next(each for each in plan.decisions if each.field == field)
    return found.value, found.reason


def test_the_plan_shows_all_of_it(planned: Planned) -> None:
    adapter = {
        "variant": "lora",
        "rank": 4,
        "exclude_modules": ["k_proj"],
        "layers": [0, "1-1"],
        "modules_to_save": ["norm"],
        "rank_pattern": {"q_proj": 2, "v_proj": 8},
        "target_parameters": "experts",
        "trainable_tokens": ["<|im_start|>", 3],
    }
    plan = planned("mixtral", adapter=adapter)
    shown = {field: decision(plan, f"adapter.{field}")[0] for field in adapter}
    assert shown == {
        "variant": "lora",
        "rank": "4",
        "exclude_modules": "k_proj",
        "layers": "0, 1-1",
        "modules_to_save": "norm",
        "rank_pattern": "q_proj: 2, v_proj: 8",
        "target_parameters": "gate_up_proj, down_proj",
        "trainable_tokens": "3, 256",
    }
    assert decision(plan, "adapter.layers")[1].startswith("recipe.yaml:")
    assert decision(plan, "adapter.alpha_pattern") == ("none", "default")
    assert decision(plan, "adapter.parameters_beside") == (
        "96",
        "of modules_to_save and trainable_tokens",
    )


@pytest.mark.parametrize(
    ("adapter", "problem"),
    [
        (
            {"variant": "pissa", "rank": 17},
            (
                "pissa starts `model.layers.0.self_attn.k_proj` (16 × 32) with rank 16 at most "
                "(at most 16, or leave such modules out of `adapter.target_modules`)"
            ),
        ),
        (
            {"variant": "lora_ga", "rank": 9},
            (
                "lora_ga starts `model.layers.0.self_attn.k_proj` (16 × 32) with rank 8 at most "
                "(at most 8, or leave such modules out of `adapter.target_modules`)"
            ),
        ),
        (
            {"variant": "eva", "rank": 33},
            (
                "eva starts `model.layers.0.self_attn.q_proj` (32 × 32) with rank 32 at most "
                "(at most 32, or leave such modules out of `adapter.target_modules`)"
            ),
        ),
    ],
)
def test_a_rank_that_a_start_cannot_have(
    refused: Refused, adapter: dict[str, Any], problem: str
) -> None:
    assert refused(**adapter) == [f"adapter.rank: {problem}"]


def test_the_highest_rank_of_a_start(planned: Planned) -> None:
    for variant, rank in (("pissa", 16), ("olora", 16), ("corda", 16), ("lora_ga", 8), ("eva", 32)):
        adapter = {"variant": variant, "rank": rank}
        assert planned("llama", adapter=adapter).adapter.spec.rank == rank


@pytest.mark.parametrize(
    ("variant", "method", "reason"),
    [
        ("loftq", "none", "it makes up for what quantizing loses"),
        ("corda", "nf4", "it takes a part out of full-precision weights"),
        ("corda", "int8", "it takes a part out of full-precision weights"),
        ("lora_ga", "fp4", "a weight in integers has no gradient"),
        ("lora_ga", "int8", "a weight in integers has no gradient"),
    ],
)
def test_a_start_that_a_base_gives_no_ground_for(
    refused: Refused, variant: str, method: str, reason: str
) -> None:
    (said,) = refused("llama", f"quantization.method={method}", variant=variant)
    on = "LlamaForCausalLM" if method == "none" else f"a base in {method}"
    assert f": {variant} on {on}: {reason}" in said
    assert "use " in said


@pytest.mark.parametrize(
    ("variant", "flags", "problem"),
    [
        (
            "dora",
            ["model.dtype=bfloat16"],
            (
                "dora in bfloat16: its magnitudes learn in smaller steps than bfloat16 has, and "
                "most would stay as they start (remove the line, or use lora)"
            ),
        ),
        (
            "pissa",
            ["model.dtype=float32"],
            (
                "an adapter in bfloat16 on a base in float32: each layer's inputs would be rounded "
                "for it (remove the line, or set `model.dtype: bfloat16`)"
            ),
        ),
    ],
)
def test_pairs_in_bfloat16_are_refused_where_they_lose_or_gain_nothing(
    refused: Refused, variant: str, flags: list[str], problem: str
) -> None:
    (found,) = refused("llama", *flags, variant=variant, dtype="bfloat16")
    assert found == f"adapter.dtype: {problem}"


def test_pairs_in_bfloat16_are_told_in_the_plan(planned: Planned) -> None:
    plan = planned("llama", "model.dtype=bfloat16", "adapter.dtype=bfloat16")
    assert ("adapter.dtype", "bfloat16") in {(each.field, each.value) for each in plan.decisions}
    assert plan.adapter.spec.summary().endswith("dropout 0, in bfloat16")
