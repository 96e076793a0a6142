"""NoRA: a start without an effect, outer factors that stay, and the plain LoRA it is saved as."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.adapters.nested import Nested
from lora_cli.adapters.nora import NoRa
from lora_cli.adapters.variant import Evidence
from lora_cli.model.adapter import AttachedAdapter, enable_gradient_checkpointing
from lora_cli.model.layers import weight_of
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.variants import Base, logits, optimizer_of, train, write

TinyModel = Callable[[str], Path]
SIZES = st.integers(1, 4096)

pytestmark = [
    PLAIN_PEFT,
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
]
RATE = 0.03


def nested(adapter: AttachedAdapter) -> dict[str, Nested]:
    modules = adapter.model.named_modules()
    return {name: module for name, module in modules if isinstance(module, Nested)}


@given(
    rank=st.integers(1, 64),
    outer=st.integers(1, 512),
    shapes=st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=4),
)
def test_trained_are_two_small_matrices_a_module(rank: int, outer: int, shapes: list[Any]) -> None:
    expected = sum(2 * rank * min(outer, *shape) for shape in shapes)
    assert NoRa(rank=rank, outer_rank=outer).trainable_parameters(setting(*shapes)) == expected


def test_the_figures_of_a_square_layer() -> None:
    square = setting((4096, 4096))
    assert NoRa(rank=8, outer_rank=64).trainable_parameters(square) == 1024
    assert NoRa(rank=16, outer_rank=3276).trainable_parameters(square) == 104_832


def test_a_rank_above_the_outer_one_is_a_problem() -> None:
    (problem,) = NoRa(rank=9, outer_rank=8).problems(setting((32, 16)))
    assert problem.field == "rank"
    assert "with rank 8 at most" in problem.message
    assert list(NoRa(rank=8, outer_rank=8).problems(setting((32, 16)))) == []


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)])
@pytest.mark.parametrize("svd", ["full", "fast"])
def test_the_outer_pair_is_the_best_approximation(shape: tuple[int, int], svd: str) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    evidence = Evidence(weight, rank=2, scaling=2.0, requantized=lambda held: held)
    spec = NoRa.model_validate({"variant": "nora", "rank": 2, "outer_rank": 5, "svd": svd})
    start = spec.start(evidence)
    assert start.taken is None
    assert (start.first.a.shape, start.first.b.shape) == ((5, shape[1]), (shape[0], 5))
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    best = left[:, :5] * values[:5] @ right[:5]
    torch.testing.assert_close(start.first.b @ start.first.a, best, rtol=0, atol=1e-5)
    for factor in (start.first.a, start.first.b):
        assert factor.untyped_storage().nbytes() == 4 * factor.numel(), "no more memory than that"
    rows = start.first.a @ start.first.a.T
    torch.testing.assert_close(rows, torch.eye(5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "tied_llama"])
@pytest.mark.parametrize("method", ["none", "nf4", "fp4", "int8"])
def test_it_starts_as_the_base_learns_and_reloads(
    tiny_model: TinyModel, tmp_path: Path, architecture: str, method: str
) -> None:
    base = Base(tiny_model(architecture), architecture, method)
    adapter = base.adapted(NoRa(rank=4, outer_rank=16))
    start = logits(base.load())
    assert logits(adapter.model).equal(start)
    trained = [each for each in adapter.model.parameters() if each.requires_grad]
    assert sum(each.numel() for each in trained) == 2 * 4 * 16 * len(base.modules())
    outer = {name: module.outer.clone() for name, module in nested(adapter).items()}
    losses = train(adapter, optimizer_of(adapter, RATE))
    assert losses[-1] < losses[0] - 0.15
    assert all(module.outer.equal(outer[name]) for name, module in nested(adapter).items())
    found = logits(adapter.model)
    assert (found - start).abs().max() > 0.1
    assert logits(base.reloaded(adapter, tmp_path)).equal(found)


def test_the_outer_pair_is_that_of_the_weight_that_the_base_holds(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"), method="nf4")
    adapter = base.adapted(NoRa(rank=2, outer_rank=32))
    name = base.modules()[0]
    layer = adapter.model.get_base_model().get_submodule(name)
    product = layer.lora_B["default"].outer @ layer.lora_A["default"].outer
    torch.testing.assert_close(product, weight_of(layer.base_layer), rtol=0, atol=1e-5)


def test_only_a_plain_lora_is_saved(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = Base(tiny_model("llama"))
    adapter = base.adapted(NoRa(rank=4, outer_rank=16, alpha=6.0))
    train(adapter, optimizer_of(adapter, RATE), last=2)
    write(adapter, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 6.0)
    assert config["init_lora_weights"] is True
    tensors = adapter.saved().tensors
    prefix = "base_model.model."
    assert set(tensors) == {
        f"{prefix}{name}.lora_{side}.weight" for name in base.modules() for side in "AB"
    }
    assert tensors[f"{prefix}model.layers.0.mlp.down_proj.lora_A.weight"].shape == (4, 64)
    assert tensors[f"{prefix}model.layers.0.mlp.down_proj.lora_B.weight"].shape == (32, 4)


def test_the_state_is_the_inner_pairs_and_comes_back(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"))
    adapter = base.adapted(NoRa(rank=4, outer_rank=16))
    optimizer = optimizer_of(adapter, RATE)
    train(adapter, optimizer, last=3)
    state, found = adapter.state(), logits(adapter.model)
    assert {tuple(tensor.shape) for tensor in state.values()} == {(4, 16), (16, 4)}
    train(adapter, optimizer, first=4, last=6)
    assert not logits(adapter.model).equal(found)
    adapter.load_state(state)
    assert logits(adapter.model).equal(found)


def test_the_start_depends_on_the_seed_alone(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"))
    states = []
    for seed, noise in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(noise)
        states.append(base.adapted(NoRa(rank=4, outer_rank=16), seed=seed).state())
    one, same, other = states
    assert all(one[name].equal(same[name]) for name in one)
    assert not all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("method", ["none", "nf4"])
def test_a_base_in_bfloat16_with_checkpointing_trains_and_reloads(
    tiny_model: TinyModel, tmp_path: Path, method: str
) -> None:
    base = Base(tiny_model("llama"), method=method, dtype="bfloat16")
    adapter = base.adapted(NoRa(rank=4, outer_rank=16))
    assert {each.dtype for each in adapter.state().values()} == {torch.float32}
    enable_gradient_checkpointing(adapter.model)
    losses = train(adapter, optimizer_of(adapter, RATE))
    assert losses[-1] < losses[0] - 0.15
    found = logits(adapter.model)
    assert logits(base.reloaded(adapter, tmp_path)).equal(found)


def test_checkpointing_changes_no_gradient(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"))
    ends = []
    for checkpointing in (False, True):
        adapter = base.adapted(NoRa(rank=4, outer_rank=16))
        if checkpointing:
            enable_gradient_checkpointing(adapter.model)
        train(adapter, optimizer_of(adapter, RATE), last=3)
        ends.append(adapter.state())
    assert all(ends[0][name].equal(ends[1][name]) for name in ends[0])


def test_ranks_of_their_own_are_kept(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = Base(tiny_model("llama"))
    spec = NoRa(rank=4, outer_rank=16, rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 10.0})
    adapter = base.adapted(spec)
    trained = sum(each.numel() for each in adapter.model.parameters() if each.requires_grad)
    assert trained == spec.trainable_parameters(base.setting())
    train(adapter, optimizer_of(adapter, RATE), last=3)
    found = logits(adapter.model)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert adapter.saved().tensors[name].shape == (2, 32)
    assert logits(base.reloaded(adapter, tmp_path)).equal(found)


def test_without_the_adapter_it_is_the_base_and_then_trains_on(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"))
    adapter = base.adapted(NoRa(rank=4, outer_rank=16))
    optimizer = optimizer_of(adapter, RATE)
    train(adapter, optimizer, last=2)
    held, found = adapter.state(), logits(adapter.model)
    with adapter.model.disable_adapter():
        assert logits(adapter.model).equal(logits(base.load()))
    assert logits(adapter.model).equal(found)
    assert adapter.state().keys() == held.keys(), "the inner pairs are trained, and nothing else"
    train(adapter, optimizer, first=3, last=4)
    assert not logits(adapter.model).equal(found)


def test_it_merges_in_peft_and_can_be_copied(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("gpt2"), "gpt2")
    adapter = base.adapted(NoRa(rank=4, outer_rank=16))
    train(adapter, optimizer_of(adapter, RATE), last=3)
    found = logits(adapter.model)
    copied = copy.deepcopy(adapter.model)
    assert logits(copied).equal(found)
    # the sum W + s·B·A is rounded once more
    torch.testing.assert_close(logits(copied.merge_and_unload()), found, rtol=0, atol=1e-5)
