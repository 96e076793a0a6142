"""AdaLoRA: its schedule, its orthogonality term, its state, and the plain LoRA that it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.adapters.adalora import AdaLora
from lora_cli.adapters.allocator import ranked_layers
from lora_cli.adapters.variant import SavedAdapter
from lora_cli.model.adapter import AttachedAdapter
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.variants import Base, logits, optimizer_of, tokens, train, write

TinyModel = Callable[[str], Path]

pytestmark = [
    PLAIN_PEFT,
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
]
RATE = 0.1
"""The pair starts small, and what it is multiplied by at 0: 20 steps need large ones."""


def ranks_of(saved: SavedAdapter) -> dict[str, int]:
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): len(tensor)
        for name, tensor in saved.tensors.items()
        if name.endswith(".lora_A.weight")
    }


def at_least_one(ranks: dict[str, int]) -> dict[str, int]:
    """Return what is saved: a module without a rank keeps one of zeros."""
    return {name: max(rank, 1) for name, rank in ranks.items()}


def problems_of(steps: int, **fields: Any) -> list[str]:
    spec, run = AdaLora(**fields), setting((8, 8), steps=steps)
    return [problem.field for problem in spec.settled(run).problems(run)]


def test_what_is_left_open_follows_from_rank_and_run() -> None:
    settled = AdaLora(rank=8).settled(setting((8, 8), steps=2500))
    assert settled.model_dump(exclude_defaults=True) == {
        "rank": 8,
        "initial_rank": 12,
        "alpha": 24.0,
        "allocation_start": 250,
        "allocation_end": 1250,
        "allocation_interval": 2,
    }
    assert settled.scaling == 2.0
    named = {"initial_rank": 9, "alpha": 3.0, "allocation_start": 1, "allocation_end": 7}
    kept = AdaLora(**named, allocation_interval=3)
    assert kept.settled(setting((8, 8), steps=2500)) == kept
    assert kept.scaling == 3 / 9


@given(rank=st.integers(1, 512), steps=st.integers(1, 10**6))
def test_the_defaults_fit_every_run_but_the_shortest(rank: int, steps: int) -> None:
    assert problems_of(steps, rank=rank) == (["allocation_end"] if steps < 4 else [])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"allocation_start": 0, "allocation_end": 2}, []),
        ({"allocation_start": 5, "allocation_end": 6}, []),
        ({"allocation_start": 5, "allocation_end": 5}, ["allocation_end"]),
        ({"allocation_end": 20}, []),
        ({"allocation_end": 21}, ["allocation_end"]),
        ({"allocation_start": 10}, ["allocation_end"]),
        ({"rank": 8, "initial_rank": 9}, []),
        ({"rank": 8, "initial_rank": 8}, ["initial_rank"]),
        ({"rank": 8, "initial_rank": 7, "allocation_end": 99}, ["initial_rank", "allocation_end"]),
    ],
)
def test_what_cannot_be_allocated_is_said(fields: Any, expected: list[str]) -> None:
    assert problems_of(20, **fields) == expected


@given(rank=st.integers(1, 512), width=st.integers(1, 4096), height=st.integers(1, 4096))
def test_trained_are_a_triple_of_the_initial_rank(rank: int, width: int, height: int) -> None:
    spec = AdaLora(rank=rank, initial_rank=rank + 1)
    assert spec.trainable_parameters(setting((width, height))) == (rank + 1) * (width + height + 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_count_is_that_of_the_model(tiny_model: TinyModel, dtype: str) -> None:
    base = Base(tiny_model("llama"), dtype=dtype)
    adapter = base.adapted(AdaLora(rank=3))
    trained = sum(each.numel() for each in adapter.model.parameters() if each.requires_grad)
    assert trained == adapter.spec.trainable_parameters(base.setting())


def test_on_a_base_in_bfloat16_the_scaling_stays_what_it_is(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    """Peft lets the rank that it divides by be trained there, and rounds 257 to 256."""
    base = Base(tiny_model("llama"), dtype="bfloat16")
    adapter = base.adapted(AdaLora(rank=2, initial_rank=257))
    assert {each.dtype for each in adapter.state().values()} == {torch.float32, torch.bool}
    losses = train(adapter, optimizer_of(adapter, RATE), last=12)
    assert losses[-1] < losses[0] - 0.15
    divisors = {float(each.ranknum["default"]) for each in ranked_layers(adapter.model).values()}
    assert divisors == {257.0}
    found = logits(adapter.model)
    # the base computes in bfloat16, whose last digit of logits of about 1 is 1/128
    torch.testing.assert_close(logits(base.reloaded(adapter, tmp_path)), found, rtol=0, atol=0.05)


def test_the_penalty_is_the_term_that_peft_adds_to_a_loss(tiny_model: TinyModel) -> None:
    """Peft does so where it is given labels; it never is here."""
    base = Base(tiny_model("gpt2"), "gpt2")
    adapter = base.adapted(AdaLora(rank=3, orthogonality_weight=0.3))
    train(adapter, optimizer_of(adapter, RATE), last=2)
    rows = tokens()
    adapter.model.eval()
    with torch.no_grad():
        theirs = adapter.model(input_ids=rows, labels=rows).loss
        plain = adapter.model.base_model.model(input_ids=rows, labels=rows).loss
    penalty = adapter.spec.penalty(adapter.model)
    assert penalty is not None
    assert penalty.item() > 0.1
    torch.testing.assert_close(penalty.detach(), theirs - plain, rtol=1e-5, atol=1e-6)
    without = base.adapted(AdaLora(rank=3, orthogonality_weight=0.0))
    assert without.spec.penalty(without.model) is None


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "tied_llama"])
@pytest.mark.parametrize("method", ["none", "nf4", "fp4", "int8"])
def test_it_starts_as_the_base_learns_and_reloads_with_the_ranks_it_kept(
    tiny_model: TinyModel, tmp_path: Path, architecture: str, method: str
) -> None:
    base = Base(tiny_model(architecture), architecture, method)
    adapter = base.adapted(AdaLora(rank=3, alpha=9.0))
    start = logits(base.load())
    assert logits(adapter.model).equal(start), "the values start at 0"
    assert set(adapter.spec.ranks(adapter.model).values()) == {5}
    losses = train(adapter, optimizer_of(adapter, RATE))
    assert losses[-1] < losses[0] - 0.15
    ranks = adapter.spec.ranks(adapter.model)
    assert sum(ranks.values()) == 3 * len(base.modules()), "the average that was asked for"
    assert len(set(ranks.values())) > 1
    found = logits(adapter.model)
    assert (found - start).abs().max() > 0.1
    # int8 rounds activations: a last digit of float32 can move one by a step of the rounding
    within = 0.02 if method == "int8" else 1e-5
    reloaded = logits(base.reloaded(adapter, tmp_path))
    torch.testing.assert_close(reloaded, found, rtol=0, atol=within)
    assert ranks_of(adapter.saved()) == at_least_one(ranks)


def test_what_is_saved_is_a_plain_lora(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = Base(tiny_model("llama"))
    adapter = base.adapted(AdaLora(rank=2, alpha=6.0, dropout=0.25))
    train(adapter, optimizer_of(adapter, RATE))
    ranks = at_least_one(adapter.spec.ranks(adapter.model))
    write(adapter, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    largest = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != largest}
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_dropout"]) == (largest, 0.25)
    assert config["lora_alpha"] == 2.0 * largest
    assert config["rank_pattern"] == others
    assert config["alpha_pattern"] == {name: 2.0 * rank for name, rank in others.items()}
    assert "init_r" not in config
    assert {name.rpartition(".lora_")[2] for name in adapter.saved().tensors} == {
        "A.weight",
        "B.weight",
    }


def test_a_module_that_lost_all_ranks_adds_nothing(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = Base(tiny_model("llama"))
    adapter = base.adapted(AdaLora(rank=2))
    train(adapter, optimizer_of(adapter, RATE))
    gone = base.modules()[3]
    with torch.no_grad():
        ranked_layers(adapter.model)[gone].lora_E["default"].zero_()
    found = logits(adapter.model)
    reloaded = base.reloaded(adapter, tmp_path)
    torch.testing.assert_close(logits(reloaded), found, rtol=0, atol=1e-5)
    assert ranks_of(adapter.saved())[gone] == 1
    assert not reloaded.get_base_model().get_submodule(gone).get_delta_weight("default").any()


def assert_same_state(one: AttachedAdapter, other: AttachedAdapter) -> None:
    first, second = one.state(), other.state()
    assert first.keys() == second.keys()
    assert [name for name in first if not first[name].equal(second[name])] == []


@pytest.mark.parametrize("step", [1, 2, 5, 10, 11, 19])
def test_from_its_state_it_goes_on_bit_for_bit(tiny_model: TinyModel, step: int) -> None:
    """Step 1 is before the first allocation, 5 among them, 10 the last one."""
    base, spec = Base(tiny_model("llama")), AdaLora(rank=2)
    whole = base.adapted(spec)
    train(whole, optimizer_of(whole, RATE))
    halted = base.adapted(spec)
    optimizer = optimizer_of(halted, RATE)
    train(halted, optimizer, last=step)
    resumed = base.adapted(spec, seed=7)
    resumed.load_state(halted.state())
    assert_same_state(resumed, halted)
    assert resumed.spec.ranks(resumed.model) == halted.spec.ranks(halted.model)
    going_on = optimizer_of(resumed, RATE)
    going_on.load_state_dict(optimizer.state_dict())
    train(resumed, going_on, first=step + 1)
    assert_same_state(resumed, whole)
    assert resumed.spec.ranks(resumed.model) == whole.spec.ranks(whole.model)


def test_an_earlier_state_comes_back_with_its_ranks(tiny_model: TinyModel, tmp_path: Path) -> None:
    """As the best evaluation's does at the end of a run; its ranks are higher than the last."""
    base = Base(tiny_model("llama"))
    adapter = base.adapted(AdaLora(rank=2))
    optimizer = optimizer_of(adapter, RATE)
    train(adapter, optimizer, last=5)
    best, found = adapter.state(), logits(adapter.model)
    ranks = adapter.spec.ranks(adapter.model)
    train(adapter, optimizer, first=6)
    assert adapter.spec.ranks(adapter.model) != ranks
    adapter.load_state(best)
    assert logits(adapter.model).equal(found)
    assert ranks_of(adapter.saved()) == at_least_one(ranks)
    torch.testing.assert_close(logits(base.reloaded(adapter, tmp_path)), found, rtol=0, atol=1e-5)


def test_the_shortest_schedule_reaches_the_budget(tiny_model: TinyModel) -> None:
    base = Base(tiny_model("llama"))
    spec = AdaLora(rank=2, allocation_start=0, allocation_end=2)
    adapter = base.adapted(spec, steps=2)
    train(adapter, optimizer_of(adapter, RATE), last=2)
    assert sum(adapter.spec.ranks(adapter.model).values()) == 2 * len(base.modules())


def test_between_allocations_ranks_can_come_back(tiny_model: TinyModel, tmp_path: Path) -> None:
    """What is saved is then more than what the last allocation kept, as the model is."""
    base = Base(tiny_model("llama"))
    adapter = base.adapted(AdaLora(rank=2, allocation_interval=4))
    train(adapter, optimizer_of(adapter, RATE), last=5)
    assert set(ranks_of(adapter.saved()).values()) == {3}
    assert min(adapter.spec.ranks(adapter.model).values()) < 3
    found = logits(adapter.model)
    torch.testing.assert_close(logits(base.reloaded(adapter, tmp_path)), found, rtol=0, atol=1e-5)
