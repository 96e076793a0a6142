"""The adapter: on exactly the planned modules, in float32, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lora_cli.adapters import Lora, RsLora
from lora_cli.errors import RunError
from lora_cli.model.adapter import (
    AttachedAdapter,
    attach_adapter,
    enable_gradient_checkpointing,
)

TinyModel = Callable[[str], Path]
LINEARS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


def base_of(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).requires_grad_(False)


def modules_named(base: Any, *leaves: str) -> list[str]:
    return [name for name, _ in base.named_modules() if name.rpartition(".")[2] in leaves]


def attach(base: Any, *leaves: str, seed: int = 0, **fields: Any) -> Any:
    """Return the model with a new adapter."""
    return attached(base, *leaves, seed=seed, **fields).model


def attached(base: Any, *leaves: str, seed: int = 0, **fields: Any) -> AttachedAdapter:
    return attach_adapter(
        base,
        Lora(rank=2, **fields),
        peft_names=leaves,
        modules=modules_named(base, *leaves),
        seed=seed,
    )


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_every_planned_module_is_adapted_and_no_other(
    tiny_model: TinyModel, architecture: str
) -> None:
    base = base_of(tiny_model(architecture))
    planned = modules_named(base, *LINEARS[architecture])
    model = attach(base, *LINEARS[architecture])
    adapted = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    assert [name.removeprefix("base_model.model.") for name in adapted] == planned
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * len(planned)
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)


def test_full_names_adapt_single_layers(tiny_model: TinyModel) -> None:
    names = ["model.layers.1.self_attn.q_proj", "model.layers.0.mlp.up_proj"]
    base = base_of(tiny_model("llama"))
    model = attach_adapter(base, Lora(), peft_names=names, modules=names, seed=0).model
    assert sorted(model.base_model.targeted_module_names) == sorted(names)


@pytest.mark.parametrize(
    ("modules", "odd"),
    [
        (["model.layers.0.self_attn.q_proj"], "model.layers.1.self_attn.q_proj"),
        (
            [f"model.layers.{n}.self_attn.{p}_proj" for n in (0, 1) for p in "qv"],
            "model.layers.0.self_attn.v_proj",
        ),
    ],
)
def test_other_modules_than_planned_are_refused(
    tiny_model: TinyModel, modules: list[str], odd: str
) -> None:
    base = base_of(tiny_model("llama"))
    with pytest.raises(RunError, match=f"on other modules than planned, among them `{odd}`"):
        attach_adapter(base, Lora(), peft_names=["q_proj"], modules=modules, seed=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_adapter_is_float32_on_any_base(tiny_model: TinyModel, dtype: torch.dtype) -> None:
    model = attach(base_of(tiny_model("llama"), dtype), "q_proj", "down_proj")
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {dtype}


def test_a_new_adapter_changes_nothing(tiny_model: TinyModel) -> None:
    tokens = torch.arange(2, 12)[None]
    base = base_of(tiny_model("llama"))
    with torch.no_grad():
        before = base(tokens).logits
        after = attach(base, *LINEARS["llama"])(tokens).logits
    assert before.equal(after)


def test_the_start_depends_on_the_seed_alone(tiny_model: TinyModel) -> None:
    def start(seed: int, noise: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(noise)
        return attached(base_of(tiny_model("llama")), "q_proj", seed=seed).state()

    one, same, other = start(1, noise=5), start(1, noise=6), start(2, noise=5)
    assert all(one[name].equal(same[name]) for name in one)
    assert not all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize(("spec", "scaling"), [(Lora(rank=4), 2.0), (RsLora(rank=4), 8.0)])
def test_the_variants_scaling_reaches_the_layers(
    tiny_model: TinyModel, spec: Any, scaling: float
) -> None:
    base = base_of(tiny_model("llama"))
    names = modules_named(base, "q_proj")
    model = attach_adapter(base, spec, peft_names=["q_proj"], modules=names, seed=0).model
    assert spec.scaling == scaling
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    assert {layer.scaling["default"] for layer in layers} == {scaling}


@pytest.mark.parametrize(
    ("architecture", "leaf", "expected"),
    [("llama", "q_proj", [False, False]), ("gpt2", "c_fc", [True, True])],
)
def test_each_layer_knows_how_its_weight_lies(
    tiny_model: TinyModel, architecture: str, leaf: str, expected: list[bool]
) -> None:
    """GPT-2's layers hold (in, out); peft sets that by itself, but warns as of an accident."""
    assert layouts(attach(base_of(tiny_model(architecture)), leaf)) == expected


def test_a_model_of_both_kinds_of_layers_is_adapted_without_a_warning(
    tiny_model: TinyModel,
) -> None:
    base = base_of(tiny_model("gpt2"))
    base.transformer.h[0].mlp.c_fc = torch.nn.Linear(32, 128)
    assert layouts(attach(base, "c_fc")) == [False, True]


def layouts(model: Any) -> list[bool]:
    return [module.fan_in_fan_out for module in model.modules() if hasattr(module, "lora_A")]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradient_checkpointing_gives_every_tensor_its_gradient(
    tiny_model: TinyModel, architecture: str
) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = attach(base_of(tiny_model(architecture)), *LINEARS[architecture])
        torch.manual_seed(3)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)
        if checkpointing:
            enable_gradient_checkpointing(model)
        model.train()
        turn_dropout_off(model)
        tokens = torch.arange(2, 12)[None]
        model(tokens, labels=tokens, use_cache=False).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(gradient is not None and gradient.any() for gradient in gradients[1])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def turn_dropout_off(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attn_dropout"):
            module.attn_dropout.p = 0.0


def test_an_architecture_without_checkpointing_says_so(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = attach(base_of(tiny_model("llama")), "q_proj")
    monkeypatch.setattr(type(model.get_base_model()), "supports_gradient_checkpointing", False)
    with pytest.raises(
        RunError, match=r"does not support.*training\.gradient_checkpointing to false"
    ):
        enable_gradient_checkpointing(model)


def test_the_state_is_a_copy_under_the_names_that_peft_saves(tiny_model: TinyModel) -> None:
    adapter = attached(base_of(tiny_model("llama")), "q_proj")
    model, state = adapter.model, adapter.state()
    prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert prefix in state
    assert len(state) == 4
    before = state[prefix].clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert state[prefix].equal(before)
    adapter.load_state(state)
    assert adapter.state()[prefix].equal(before)


def test_the_state_asks_no_network_for_the_base(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peft would look up whether the vocabulary changed, at every checkpoint."""

    def ask(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", ask)
    adapter = attached(base_of(tiny_model("llama")), "q_proj")
    adapter.model.peft_config["default"].base_model_name_or_path = "owner/model"
    assert len(adapter.state()) == 4


@pytest.mark.parametrize("change", ["missing", "foreign", "shape"])
def test_a_state_that_does_not_fit_is_refused_whole(tiny_model: TinyModel, change: str) -> None:
    adapter = attached(base_of(tiny_model("llama")), "q_proj")
    state = {name: tensor + 1 for name, tensor in adapter.state().items()}
    name = min(state)
    if change == "missing":
        del state[name]
    elif change == "foreign":
        name = "base_model.model.model.elsewhere.lora_A.weight"
        state[name] = torch.zeros(2, 32)
    else:
        state[name] = torch.zeros(3, 32)
    before = adapter.state()
    with pytest.raises(RunError, match=f"adapter tensors do not fit: 1 in all, the first `{name}`"):
        adapter.load_state(state)
    after = adapter.state()
    assert all(after[name].equal(before[name]) for name in before)
