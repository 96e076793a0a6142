"""Variants that take a part of the weight: what is saved is what was trained, on the whole one."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig

from lora_cli.adapters import Pissa
from lora_cli.adapters.residual import ResidualSpec
from lora_cli.adapters.variant import Factors, SavedAdapter
from tests.helpers.settings import setting
from tests.helpers.starts import matrix, product

PREFIX = "base_model.model."


class Held(Pissa):
    """A variant whose trained tensors are given."""

    def state(self, model: Any) -> dict[str, torch.Tensor]:
        return dict(model.tensors)


def pair(rank: int, seed: int) -> Factors:
    return Factors(a=matrix(rank, 6, seed), b=matrix(8, rank, seed + 1))


def saved(
    pairs: Mapping[str, Factors], taken: Mapping[str, Factors], **settings: Any
) -> SavedAdapter:
    tensors = {}
    for name, held in pairs.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = held.a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = held.b
    rank = len(next(iter(pairs.values())).a)
    config = LoraConfig(r=rank, lora_alpha=3 * rank, **settings)
    model: Any = SimpleNamespace(tensors=tensors, peft_config={"default": config})
    return Held(rank=rank, alpha=3.0 * rank).saved(model, taken)


def delta(adapter: SavedAdapter, name: str) -> torch.Tensor:
    """Return what plain peft adds to the weight of a module."""
    a, b = (adapter.tensors[f"{PREFIX}{name}.lora_{side}.weight"] for side in "AB")
    config: Any = adapter.config
    assert len(a) == config.rank_pattern.get(name, config.r)
    alpha = config.alpha_pattern.get(name, config.lora_alpha)
    return alpha / len(a) * (b @ a)


@given(rank=st.integers(1, 5), seed=st.integers(0, 50))
def test_the_saved_update_is_the_difference_to_the_part(rank: int, seed: int) -> None:
    trained, part = pair(rank, seed), pair(rank, seed + 7)
    adapter = saved({"x.m": trained}, {"x.m": part})
    assert adapter.config.r == 2 * rank
    expected = 3 * (product(trained) - product(part))
    torch.testing.assert_close(delta(adapter, "x.m"), expected, atol=1e-4, rtol=0)


def test_modules_with_ranks_of_their_own_keep_their_scaling() -> None:
    pairs = {"m": pair(4, 0), "other": pair(2, 3)}
    taken = {"m": pair(4, 5), "other": pair(2, 7)}
    patterns = {"rank_pattern": {"other": 2}, "alpha_pattern": {"other": 5}}
    adapter = saved(pairs, taken, **patterns)
    expected = 5 / 2 * (product(pairs["other"]) - product(taken["other"]))
    torch.testing.assert_close(delta(adapter, "other"), expected, atol=1e-5, rtol=0)


def test_a_part_that_was_not_trained_further_is_no_update() -> None:
    part = pair(3, 0)
    # products of numbers around 1 that cancel in float32
    assert float(delta(saved({"m": part}, {"m": part}), "m").abs().max()) < 1e-5


def test_where_nothing_was_taken_it_is_saved_as_it_is() -> None:
    trained = pair(3, 0)
    adapter = saved({"m": trained}, {})
    assert adapter.config.r == 3
    torch.testing.assert_close(delta(adapter, "m"), 3 * product(trained))


def test_all_other_settings_are_kept() -> None:
    part = pair(2, 0)
    settings = {"target_modules": ["m"], "task_type": "SEQ_CLS", "fan_in_fan_out": True}
    config = saved({"m": part}, {"m": part}, lora_dropout=0.25, **settings).config
    expected = LoraConfig(r=4, lora_alpha=12, lora_dropout=0.25, **settings)
    assert config.to_dict() == expected.to_dict()


def test_tensors_beside_the_pairs_are_kept() -> None:
    class WithHead(Held):
        def state(self, model: Any) -> dict[str, torch.Tensor]:
            return {**model.tensors, f"{PREFIX}score.weight": torch.ones(2)}

    part = pair(2, 0)
    tensors = {f"{PREFIX}m.lora_A.weight": part.a, f"{PREFIX}m.lora_B.weight": part.b}
    model: Any = SimpleNamespace(tensors=tensors, peft_config={"default": LoraConfig(r=2)})
    adapter = WithHead(rank=2).saved(model, {"m": part})
    assert adapter.tensors[f"{PREFIX}score.weight"].equal(torch.ones(2))


@pytest.mark.parametrize("spec", [Pissa(rank=9), Pissa(rank=4, rank_pattern={"m1": 9})])
def test_a_part_cannot_have_a_higher_rank_than_the_weight(spec: ResidualSpec) -> None:
    assert list(spec.problems(setting((16, 16), (16, 9)))) == []
    (problem,) = spec.problems(setting((16, 16), (8, 16), (16, 8)))
    assert problem.field == "rank"
    assert problem.message == "pissa starts `m1` (16 × 8) with rank 8 at most"
    assert problem.hint == "at most 8, or leave such modules out of `adapter.target_modules`"
