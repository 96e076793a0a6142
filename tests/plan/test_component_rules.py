"""What stops a plan for its quantization or its optimizer: the words, the place, what passes."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lora_cli.optimizers.bitsandbytes import BitsAndBytesAdamW
from lora_cli.plan.resolve import resolve_plan
from lora_cli.quantization.bitsandbytes import FourBit
from tests.plan.test_rules import Probed, problems_of, the_problem

TinyModel = Callable[[str], Path]


@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
def test_quantization_needs_its_package(
    probed: Probed, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    quantized = probed("llama", quantization=method)
    assert problems_of(quantized) == ()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    (problem,) = problems_of(quantized)
    assert problem.where.key == "quantization.method"
    assert problem.message == f"{method} needs the package bitsandbytes"
    assert problem.hint == "pip install bitsandbytes"


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw", "paged_adamw_8bit"])
def test_an_optimizer_needs_its_package(
    probed: Probed, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    chosen = probed("llama", f"training.optimizer={name}")
    assert problems_of(chosen) == ()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert the_problem(chosen)[1:] == (
        f"{name} needs the package bitsandbytes",
        "pip install bitsandbytes",
    )


def test_qlora_needs_the_package_for_both(probed: Probed, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = probed(adapter="qlora")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    problems = problems_of(chosen)
    assert [problem.message.split()[0] for problem in problems] == ["nf4", "paged_adamw"]


@pytest.fixture(scope="module")
def held_in_nf4(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Path:
    """A tiny model whose files hold its weights in nf4, as some on the hub are."""
    folder = tmp_path_factory.mktemp("held") / "nf4"
    shutil.copytree(tiny_model("llama"), folder)
    kwargs = FourBit(method="nf4", double_quantization=False).load_kwargs(torch.float32, [])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **kwargs)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return folder


def test_a_base_is_held_as_its_files_hold_it(probed: Probed, held_in_nf4: Path) -> None:
    plan = resolve_plan(*probed(model={"name": str(held_in_nf4)}))
    assert plan.quantization == FourBit(
        method="nf4", double_quantization=False, compute_dtype="float32"
    )
    noted = {each.field: each.reason for each in plan.decisions}
    assert noted["quantization.method"] == "as the model's files hold it"
    again = {"method": "nf4", "double_quantization": False}
    assert problems_of(probed(model={"name": str(held_in_nf4)}, quantization=again)) == ()


@pytest.mark.parametrize(
    "asked", ["int8", "none", "fp4", {"method": "nf4", "double_quantization": True}]
)
def test_a_base_cannot_be_held_otherwise_than_in_its_files(
    probed: Probed, held_in_nf4: Path, asked: Any
) -> None:
    (problem,) = problems_of(probed(model={"name": str(held_in_nf4)}, quantization=asked))
    assert problem.where.key == "quantization.method"
    assert problem.message == "the model's files hold its weights in nf4, in a way of their own"
    assert problem.hint == "leave `quantization` out, or name the model in full precision"


@pytest.mark.parametrize("variant", ["pissa", "olora", "loftq"])
def test_what_starts_from_the_original_weights_needs_them(
    probed: Probed, held_in_nf4: Path, variant: str
) -> None:
    (problem,) = problems_of(probed(model={"name": str(held_in_nf4)}, adapter=variant))
    assert problem.where.key == "adapter.variant"
    assert problem.message == f"{variant} starts from weights that the model's files no longer hold"
    assert problem.hint == "name the model in full precision, with `quantization: nf4`"


def test_files_of_another_quantizer_are_refused(probed: Probed, tmp_path: Path) -> None:
    loaded, facts = probed()
    base = replace(facts.base, quantized_by="gptq")
    (problem,) = problems_of((loaded, replace(facts, base=base)))
    assert problem.message == "the model's files hold weights that gptq has quantized"
    assert problem.where.key == "model.name"


def test_layers_that_peft_refuses_are_refused_before_any_weight_is_read(probed: Probed) -> None:
    loaded, facts = probed()
    base = replace(facts.base, refused_by_peft=frozenset({"o_proj"}))
    (problem,) = problems_of((loaded, replace(facts, base=base)))
    assert problem.where.key == "adapter.target_modules"
    assert problem.message.startswith(
        "on LlamaForCausalLM peft refuses `model.layers.0.self_attn.o"
    )
    assert problem.hint == "leave such layers out: `exclude_modules: [o_proj]`"


@pytest.mark.parametrize(
    "settings", [{"lora_plus_ratio": 16.0}, {"weight_decay": 0.1}, {"beta2": 0.99}]
)
def test_qlora_keeps_its_paged_optimizer_whatever_else_is_set(
    probed: Probed, settings: dict[str, float]
) -> None:
    plan = resolve_plan(*probed(adapter="qlora", training={"steps": 2, "optimizer": settings}))
    assert plan.optimizer == BitsAndBytesAdamW(name="paged_adamw", **settings)


@pytest.mark.parametrize(
    ("variant", "method"),
    [
        ("oft", "nf4"),
        ("boft", "nf4"),
        ({"variant": "miss", "rank": 4}, "int8"),
    ],
)
def test_a_layer_that_is_kept_in_full_precision_stays_as_it_lies(
    probed: Probed, variant: Any, method: str
) -> None:
    kept = {"method": method, "full_precision_modules": ["c_proj"]}
    (problem,) = problems_of(probed("gpt2", adapter=variant, quantization=kept))
    assert "weights held as (in, out)" in problem.message
    assert problems_of(probed("gpt2", adapter=variant, quantization=method)) == ()


@pytest.mark.parametrize("method", ["none", "int8"])
def test_qlora_on_another_base_is_told_at_the_line_of_the_base(probed: Probed, method: str) -> None:
    (problem,) = problems_of(probed(adapter="qlora", quantization=method))
    base = "LlamaForCausalLM" if method == "none" else "a base in int8"
    assert problem.where.key == "quantization.method"
    assert problem.where.line > 0
    assert problem.message.startswith(f"qlora on {base}: ")
    assert "write `quantization: nf4`, or leave it out, or take the variant lora" in problem.message


@pytest.mark.parametrize("method", ["nf4", "fp4"])
def test_qlora_on_a_4_bit_base(probed: Probed, method: str) -> None:
    assert problems_of(probed(adapter="qlora", quantization=method)) == ()


@pytest.mark.parametrize("name", ["o_proj", "self_attn.o_proj", "layers.0", "mlp", "lm_head"])
def test_modules_to_keep_in_full_precision(probed: Probed, name: str) -> None:
    flag = f"quantization.full_precision_modules=[{name}]"
    assert problems_of(probed("llama", flag, quantization="nf4")) == ()


@pytest.mark.parametrize("name", ["proj", "o_pro", "embed_tokens", "layers.2", "model.norm"])
def test_a_name_of_no_layer_to_keep(probed: Probed, name: str) -> None:
    kept = {"method": "int8", "full_precision_modules": ["q_proj", name]}
    assert the_problem(probed(quantization=kept)) == (
        "quantization.full_precision_modules[1]",
        f"`{name}` matches no linear layer of LlamaForCausalLM",
        "its layers: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
    )


def test_keeping_every_layer_is_no_quantization(probed: Probed) -> None:
    kept = {"method": "nf4", "full_precision_modules": ["self_attn", "mlp"]}
    assert the_problem(probed(quantization=kept)) == (
        "quantization.full_precision_modules",
        "nothing is left to hold in nf4",
        "write `quantization: none`",
    )


def test_no_start_from_an_error_that_is_not_there(probed: Probed) -> None:
    kept = {"method": "nf4", "full_precision_modules": ["o_proj"]}
    loftq = {"variant": "loftq", "rank": 4}
    key, message, hint = the_problem(probed(adapter=loftq, quantization=kept))
    assert key == "quantization.full_precision_modules"
    assert message == (
        "loftq starts from what quantizing loses, and `model.layers.0.self_attn.o_proj` loses "
        "nothing"
    )
    assert "`adapter.target_modules`" in hint
    others = {**loftq, "target_modules": ["q_proj"]}
    assert problems_of(probed(adapter=others, quantization=kept)) == ()


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ("vera", "it has no pair of A and B; use adamw"),
        ("ia3", "it has no pair of A and B; use adamw"),
        ("dora", "it corrects B for a weight that B·A is added to"),
        ("adalora", "its A is trained to be orthogonal; use adamw"),
        ("nora", "the A that B is multiplied by is a product of two; use adamw"),
    ],
)
def test_lora_fa_needs_a_plain_pair(probed: Probed, variant: str, reason: str) -> None:
    training = {"batch_size": 4, "steps": 100, "optimizer": "lora_fa"}
    key, message, _hint = the_problem(probed(adapter=variant, training=training))
    assert key == "training.optimizer.name"
    assert message.startswith(f"lora_fa with {variant}: {reason}")


@pytest.mark.parametrize("variant", ["lora", "rslora", "pissa", "olora", "eva"])
def test_lora_fa_goes_with_what_adds_a_pair(probed: Probed, variant: str) -> None:
    adapter = {"variant": variant, "rank": 4}
    assert problems_of(probed("llama", "training.optimizer=lora_fa", adapter=adapter)) == ()


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "paged_adamw"])
def test_lora_plus_needs_a_pair(probed: Probed, name: str) -> None:
    optimizer = {"name": name, "lora_plus_ratio": 16}
    training = {"batch_size": 4, "steps": 100, "optimizer": optimizer}
    assert the_problem(probed(adapter="vera", training=training)) == (
        "training.optimizer.lora_plus_ratio",
        "LoRA+ with vera: it has no pair of A and B",
        "remove the line",
    )
    for variant in ("lora", "dora", "nora"):
        paired = {"variant": variant, "rank": 4}
        assert problems_of(probed(adapter=paired, training=training)) == ()
