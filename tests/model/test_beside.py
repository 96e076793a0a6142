"""What is trained beside the adapter: in float32 on any base, tied, as plain peft reloads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from lora_cli.adapters.dora import Dora
from lora_cli.adapters.lora import Lora
from lora_cli.adapters.rslora import RsLora
from lora_cli.adapters.vera import Vera
from lora_cli.errors import RunError
from lora_cli.model.adapter import (
    AttachedAdapter,
    attach_adapter,
    enable_gradient_checkpointing,
)
from tests.helpers.adapters import logits
from tests.helpers.runs import PLAIN_PEFT

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
ENDS = {
    "llama": ("model.embed_tokens", "lm_head"),
    "tied_llama": ("model.embed_tokens", "lm_head"),
    "gpt2": ("transformer.wte", "lm_head"),
}
NORMS = {"llama": "model.norm", "tied_llama": "model.norm", "gpt2": "transformer.ln_f"}
DTYPES = [torch.float32, torch.bfloat16]
RELOADS_WITHIN = 1e-5


def base_of(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).requires_grad_(False)


def attach(base: Any, spec: Any, *targets: str) -> AttachedAdapter:
    """Return the base with an adapter on the modules of these last names."""
    names = [name for name, _ in base.named_modules() if name.rpartition(".")[2] in targets]
    return attach_adapter(base, spec, peft_names=targets, modules=names, seed=0)


def train(model: Any, steps: int = 10, rate: float = 0.01) -> list[float]:
    """Learn one batch by heart; return the losses."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    tokens = torch.arange(2, 34).reshape(2, 16)
    losses = []
    model.train()
    for _ in range(steps):
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


def reloaded(adapter: AttachedAdapter, base: Any, folder: Path) -> Any:
    """Return `base` with the saved adapter, as plain peft loads it."""
    saved = adapter.saved()
    saved.config.save_pretrained(str(folder))
    save_file(saved.tensors, folder / "adapter_model.safetensors")
    return PeftModel.from_pretrained(base, folder)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        *((name, {"modules_to_save": ends}) for name, ends in ENDS.items()),
        *((name, {"modules_to_save": (norm,)}) for name, norm in NORMS.items()),
        *((name, {"trainable_tokens": (2, 5, 30)}) for name in ENDS),
        ("llama", {"modules_to_save": ("model.layers.1.mlp",)}),
        ("llama", {"trainable_tokens": (3,), "modules_to_save": ("lm_head", "model.norm")}),
        ("llama", {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3.5}}),
    ],
    ids=str,
)
def test_what_was_trained_reloads_in_plain_peft(
    tiny_model: TinyModel,
    tmp_path: Path,
    architecture: str,
    fields: dict[str, Any],
    dtype: torch.dtype,
) -> None:
    base = base_of(tiny_model(architecture), dtype)
    before = logits(base)
    targets = ("c_attn",) if architecture == "gpt2" else ("q_proj", "v_proj")
    adapter = attach(base, Lora(rank=4, **fields), *targets)
    losses = train(adapter.model)
    assert losses[-1] < losses[0] - 0.01
    ours = logits(adapter.model)
    again = reloaded(adapter, base_of(tiny_model(architecture), dtype), tmp_path)
    assert (logits(again) - ours).abs().max() <= RELOADS_WITHIN
    assert (before - ours).abs().max() > 0.05, "it learnt something"
    with adapter.model.disable_adapter():
        assert logits(adapter.model).equal(before), "the base is as it was"


@pytest.mark.parametrize("variant", [Lora, RsLora, Dora])
@pytest.mark.parametrize("architecture", ["tied_llama", "gpt2"])
def test_tied_embeddings_stay_one_weight(
    tiny_model: TinyModel, architecture: str, variant: Any
) -> None:
    base = base_of(tiny_model(architecture))
    target = "c_attn" if architecture == "gpt2" else "q_proj"
    adapter = attach(base, variant(rank=2, modules_to_save=ENDS[architecture]), target)
    train(adapter.model)
    tensors = adapter.saved().tensors
    embedding, head = (tensors[f"base_model.model.{name}.weight"] for name in ENDS[architecture])
    assert embedding.equal(head)
    assert not embedding.equal(base.get_input_embeddings().original_module.weight)
    trained = sum(p.numel() for p in adapter.model.parameters() if p.requires_grad)
    alone = attach(base_of(tiny_model(architecture)), variant(rank=2), target).model
    assert trained - sum(p.numel() for p in alone.parameters() if p.requires_grad) == 259 * 32


def test_the_two_ends_of_an_untied_model_part(tiny_model: TinyModel) -> None:
    adapter = attach(base_of(tiny_model("llama")), Lora(modules_to_save=ENDS["llama"]), "q_proj")
    train(adapter.model)
    tensors = adapter.saved().tensors
    embedding, head = (tensors[f"base_model.model.{name}.weight"] for name in ENDS["llama"])
    assert not embedding.equal(head)
    assert adapter.saved().config.ensure_weight_tying is False


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_copies_are_float32_and_compute_as_the_base_does(
    tiny_model: TinyModel, dtype: torch.dtype
) -> None:
    base = base_of(tiny_model("llama"), dtype)
    before = logits(base)
    saved = (*ENDS["llama"], "model.norm", "model.layers.0.mlp")
    model = attach(base, Lora(modules_to_save=saved), "q_proj").model
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {dtype}
    assert logits(model).equal(before)
    assert logits(model).dtype == dtype


@pytest.mark.parametrize("architecture", ["llama", "tied_llama"])
def test_the_embedding_of_padding_learns_from_a_tied_head_alone(
    tiny_model: TinyModel, architecture: str
) -> None:
    """The reason why the plan refuses it elsewhere."""
    base = base_of(tiny_model(architecture))
    padding = base.get_input_embeddings().padding_idx
    model = attach(base, Lora(rank=2, trainable_tokens=(3, padding)), "q_proj").model
    tokens = torch.tensor([[2, 3, padding, 4]])
    model(tokens, labels=tokens).loss.backward()
    (delta,) = (p for n, p in model.named_parameters() if "trainable_tokens_delta" in n)
    assert delta.grad is not None
    assert delta.grad[0].any()
    assert delta.grad[1].any() == (architecture == "tied_llama")


def test_steps_too_small_for_bfloat16_are_learnt(tiny_model: TinyModel) -> None:
    """The weights of a norm start as 1: bfloat16 has no number between 1 and 1.0078."""
    spec = Lora(rank=2, modules_to_save=("model.norm",))
    model = attach(base_of(tiny_model("llama"), torch.bfloat16), spec, "q_proj").model
    before = logits(model)
    train(model, steps=100, rate=1e-4)
    copy = model.get_base_model().model.norm.modules_to_save["default"]
    assert (copy.weight - 1).abs().max() > 5e-3, "about 100 steps of 1e-4"
    assert not logits(model).equal(before)

    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["model.norm"])
    plain = get_peft_model(base_of(tiny_model("llama"), torch.bfloat16), config)
    train(plain, steps=100, rate=1e-4)
    lost = plain.get_base_model().model.norm.modules_to_save["default"].weight
    assert lost.dtype == torch.bfloat16
    # below 1 the next number is half as far: some weights creep down that far, none goes up
    assert (lost <= 1).all(), "why ours are not held as peft holds them"
    assert (copy.weight > 1).any()


@pytest.mark.parametrize("variant", [Lora(rank=2), Vera(rank=2)])
def test_any_variant_trains_modules_beside_it(
    tiny_model: TinyModel, tmp_path: Path, variant: Any
) -> None:
    spec = variant.model_copy(update={"modules_to_save": ("model.norm", "lm_head")})
    adapter = attach(base_of(tiny_model("llama"), torch.bfloat16), spec, "q_proj")
    train(adapter.model)
    again = reloaded(adapter, base_of(tiny_model("llama"), torch.bfloat16), tmp_path)
    assert (logits(again) - logits(adapter.model)).abs().max() <= RELOADS_WITHIN


def test_the_state_goes_back_where_it_came_from(tiny_model: TinyModel) -> None:
    spec = Lora(modules_to_save=("model.norm",), trainable_tokens=(4,))
    adapter = attach(base_of(tiny_model("llama"), torch.bfloat16), spec, "q_proj")
    train(adapter.model)
    state, ours = adapter.state(), logits(adapter.model)
    train(adapter.model)
    assert not logits(adapter.model).equal(ours)
    adapter.load_state(state)
    assert logits(adapter.model).equal(ours)


def test_gradient_checkpointing_reaches_a_module_inside_a_layer(tiny_model: TinyModel) -> None:
    gradients = []
    for checkpointing in (False, True):
        spec = Lora(modules_to_save=("model.layers.0.mlp", "model.embed_tokens"))
        model = attach(base_of(tiny_model("llama"), torch.bfloat16), spec, "q_proj").model
        if checkpointing:
            enable_gradient_checkpointing(model)
        model.train()
        tokens = torch.arange(2, 12)[None]
        model(tokens, labels=tokens, use_cache=False).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("spec", [Lora(rank=2), RsLora(rank=2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_and_head_are_adapted(
    tiny_model: TinyModel, tmp_path: Path, spec: Any, dtype: torch.dtype
) -> None:
    adapter = attach(base_of(tiny_model("llama"), dtype), spec, "q_proj", "embed_tokens", "lm_head")
    trained = sum(p.numel() for p in adapter.model.parameters() if p.requires_grad)
    assert trained == 2 * (2 * (259 + 32) + 2 * (32 + 32))
    losses = train(adapter.model)
    assert losses[-1] < losses[0] - 0.01
    ours = logits(adapter.model)
    again = reloaded(adapter, base_of(tiny_model("llama"), dtype), tmp_path)
    assert (logits(again) - ours).abs().max() <= RELOADS_WITHIN
    if dtype == torch.float32:
        merged = logits(again.merge_and_unload())
        assert (merged - ours).abs().max() <= RELOADS_WITHIN, "untied, peft's merge is right"


@pytest.mark.parametrize(
    ("architecture", "parameters", "count"),
    [
        # A (rank, in) and B (out, rank) of each of 4 experts, in 2 layers: see the config's sizes
        ("mixtral", ["gate_up_proj", "down_proj"], 2 * 4 * 2 * ((32 + 128) + (64 + 32))),
        ("qwen3_moe", ["gate_up_proj", "down_proj"], 2 * 4 * 2 * ((32 + 64) + (32 + 32))),
        ("mixtral", ["down_proj"], 2 * 4 * 2 * (64 + 32)),
        ("mixtral", ["gate.weight"], 2 * 2 * (32 + 4)),
    ],
)
@pytest.mark.parametrize("spec", [Lora(rank=2), RsLora(rank=2)])
def test_experts_are_adapted_and_the_router_is_not(
    tiny_model: TinyModel,
    tmp_path: Path,
    architecture: str,
    parameters: list[str],
    count: int,
    spec: Any,
) -> None:
    base = base_of(tiny_model(architecture))
    wanted = [
        name
        for name, _ in base.named_parameters()
        if any(name.endswith(f".{each}") for each in parameters)
    ]
    adapter = attach(base, spec.model_copy(update={"target_parameters": tuple(wanted)}), "q_proj")
    trained = {name: p for name, p in adapter.model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == count + 2 * 2 * (32 + 32)
    assert any(".gate." in name for name in trained) == (parameters == ["gate.weight"])
    losses = train(adapter.model)
    assert losses[-1] < losses[0] - 0.002, "a router alone moves little"
    ours = logits(adapter.model)
    again = reloaded(adapter, base_of(tiny_model(architecture)), tmp_path)
    assert (logits(again) - ours).abs().max() <= RELOADS_WITHIN


def test_a_pattern_gives_experts_a_rank_of_their_own(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = base_of(tiny_model("mixtral"))
    names = tuple(n for n, _ in base.named_parameters() if n.endswith(".experts.down_proj"))
    patterns: dict[str, Any] = {"rank_pattern": {"down_proj": 5}, "alpha_pattern": {"experts.*": 3}}
    adapter = attach(base, Lora(rank=2, target_parameters=names, **patterns), "q_proj")
    shapes = {tuple(p.shape) for n, p in adapter.state().items() if "experts" in n}
    assert shapes == {(4 * 5, 64), (32, 4 * 5)}
    train(adapter.model)
    with pytest.warns(RuntimeWarning, match="_pattern keys did not match any targeted module"):
        again = reloaded(adapter, base_of(tiny_model("mixtral")), tmp_path)
    assert (logits(again) - logits(adapter.model)).abs().max() <= RELOADS_WITHIN


def test_targets_that_peft_does_not_find_are_refused(tiny_model: TinyModel) -> None:
    names = [f"model.layers.0.mlp.experts.{leaf}" for leaf in ("down_proj", "gate")]
    spec = Lora(target_parameters=tuple(names))
    with pytest.raises(RunError, match=r"other modules than planned.*experts\.gate"):
        attach(base_of(tiny_model("mixtral")), spec, "q_proj")
