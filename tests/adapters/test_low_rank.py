"""LoRA and rsLoRA: the figures of the papers, and the same figures in what peft builds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lora_cli.adapters import AdapterSpec
from lora_cli.adapters.lora import Lora
from lora_cli.adapters.low_rank import LowRankSpec
from lora_cli.adapters.rslora import RsLora
from lora_cli.adapters.targeted import TargetRegex
from lora_cli.facts.bare_parameters import ParameterFacts
from tests.helpers.settings import setting

TinyModel = Callable[[str], Path]
SPECS: TypeAdapter[Any] = TypeAdapter(AdapterSpec)
RANKS = st.integers(1, 512)
ALPHAS = st.floats(0.01, 1024)


@given(rank=RANKS, alpha=ALPHAS)
def test_lora_scales_by_alpha_over_rank(rank: int, alpha: float) -> None:
    assert Lora(rank=rank, alpha=alpha).scaling == alpha / rank


@given(rank=RANKS, alpha=ALPHAS)
def test_rslora_scales_by_alpha_over_the_root_of_rank(rank: int, alpha: float) -> None:
    assert RsLora(rank=rank, alpha=alpha).scaling == alpha / math.sqrt(rank)


@given(rank=RANKS)
def test_without_alpha_the_scaling_is_the_method_s_own(rank: int) -> None:
    assert Lora(rank=rank).resolved_alpha == 2 * rank
    assert Lora(rank=rank).scaling == 2
    assert RsLora(rank=rank).resolved_alpha == 16
    assert RsLora(rank=rank).scaling == 16 / math.sqrt(rank)


def test_the_scaling_of_16_at_rank_8() -> None:
    assert Lora(rank=8, alpha=16.0).scaling == 2.0
    assert RsLora(rank=8, alpha=16.0).scaling == pytest.approx(5.657, abs=5e-4)


@pytest.mark.parametrize(
    ("rank", "count"), [(4, 32_768), (8, 65_536), (16, 131_072), (64, 524_288)]
)
def test_the_parameters_of_a_square_layer(rank: int, count: int) -> None:
    assert Lora(rank=rank).trainable_parameters(setting((4096, 4096))) == count
    assert RsLora(rank=rank).trainable_parameters(setting((4096, 4096))) == count


def test_the_parameters_of_a_layer_that_is_not_square() -> None:
    assert Lora(rank=3).trainable_parameters(setting((5, 7))) == 3 * 5 + 7 * 3


def test_defaults() -> None:
    assert Lora().model_dump() == {
        "rank": 16,
        "alpha": None,
        "dropout": 0.0,
        "dtype": "float32",
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_parameters": (),
        "trainable_tokens": (),
        "target_modules": "all-linear",
        "exclude_modules": (),
        "layers": (),
        "modules_to_save": (),
        "variant": "lora",
    }


PATTERNS = st.sampled_from(["q_proj", "attn.q_proj", r"layers\.1\..*", "(q|v)_proj", "proj", ""])
MODULES = [f"model.layers.{n}.attn.{leaf}_proj" for n in (0, 1, 11) for leaf in "qkv"]


@given(ranks=st.dictionaries(PATTERNS, RANKS), alphas=st.dictionaries(PATTERNS, ALPHAS))
@pytest.mark.parametrize("variant", [Lora, RsLora])
def test_patterns_mean_what_they_mean_to_peft(
    variant: type[LowRankSpec], ranks: dict[str, int], alphas: dict[str, float]
) -> None:
    from peft.utils.other import get_pattern_key

    spec = variant(rank=3, alpha=5.0, rank_pattern=ranks, alpha_pattern=alphas)
    for module in MODULES:
        rank = ranks.get(get_pattern_key(ranks, module), 3)
        alpha = alphas.get(get_pattern_key(alphas, module), 5.0)
        assert spec.rank_of(module) == rank
        divisor = math.sqrt(rank) if spec.rank_stabilised else rank
        assert spec.scaling_of(module) == alpha / divisor


def test_a_rank_of_4_at_alpha_32_is_scaled_by_16_where_the_rank_is_stabilised() -> None:
    patterns: dict[str, Any] = {"rank_pattern": {"q": 4}, "alpha_pattern": {"q": 32}}
    assert RsLora(rank=64, **patterns).scaling_of("a.q") == 16.0
    assert Lora(rank=64, **patterns).scaling_of("a.q") == 8.0
    assert Lora(rank=64, **patterns).scaling_of("a.v") == 2.0


def test_the_parameters_of_patterns_and_of_experts() -> None:
    modules = setting((5, 7), (5, 7))
    stack = ParameterFacts("m.experts.down_proj", 3, 11, 13, experts=True)
    both = replace(modules, parameters=[stack])
    assert Lora(rank=2, rank_pattern={"m1": 4}).trainable_parameters(modules) == (2 + 4) * 12
    assert Lora(rank=2).trainable_parameters(both) == 2 * 2 * 12 + 2 * 3 * (11 + 13)
    patterned = Lora(rank=2, rank_pattern={"down_proj": 1})
    assert patterned.trainable_parameters(both) == 2 * 2 * 12 + 3 * (11 + 13)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("spec", [Lora(rank=4), RsLora(rank=4, alpha=3.5, dropout=0.25)])
def test_peft_builds_what_the_spec_says(tiny_model: TinyModel, spec: LowRankSpec) -> None:
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    model = get_peft_model(base, spec.peft_config(["q_proj", "down_proj"]))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == spec.scaling
    assert getattr(layer.lora_dropout["default"], "p", 0.0) == spec.dropout
    assert layer.lora_A["default"].weight.shape == (4, 32)
    assert layer.lora_B["default"].weight.abs().max() == 0
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    expected = spec.trainable_parameters(setting(*2 * [(32, 32), (64, 32)]))
    assert sum(parameter.numel() for parameter in trained.values()) == expected
    assert all("lora_" in name for name in trained), "biases and norms stay frozen"
    torch.nn.init.ones_(layer.lora_A["default"].weight)
    torch.nn.init.ones_(layer.lora_B["default"].weight)
    hidden = torch.ones(1, 32)
    model.eval()
    added = layer(hidden) - layer.base_layer(hidden)
    torch.testing.assert_close(added, torch.full((1, 32), spec.scaling * 4 * 32), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("lora", Lora()),
        ({"variant": "rslora", "rank": 8}, RsLora(rank=8)),
        (
            {"variant": "lora", "target_modules": ["a", "b"]},
            Lora(target_modules=("a", "b")),
        ),
        (
            {"variant": "lora", "target_modules": {"regex": ".*q"}},
            Lora(target_modules=TargetRegex(regex=".*q")),
        ),
        (
            {"variant": "lora", "exclude_modules": {"regex": ".*q"}, "layers": [0, "2-3"]},
            Lora(exclude_modules=TargetRegex(regex=".*q"), layers=(0, "2-3")),
        ),
        (
            {"variant": "lora", "target_parameters": "experts", "trainable_tokens": [3, "a"]},
            Lora(target_parameters="experts", trainable_tokens=(3, "a")),
        ),
        (
            {"variant": "lora", "target_parameters": ["gate.weight"], "rank_pattern": {"q": 2}},
            Lora(target_parameters=("gate.weight",), rank_pattern={"q": 2}),
        ),
    ],
)
def test_a_family_by_name(value: Any, expected: LowRankSpec) -> None:
    assert SPECS.validate_python(value) == expected
    assert SPECS.validate_json(SPECS.dump_json(expected)) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"variant": "no such"},
        {"variant": "lora", "rank": 0},
        {"variant": "lora", "rank_pattern": {"q_proj": 0}},
        {"variant": "lora", "alpha_pattern": {"q_proj": 0}},
        {"variant": "lora", "layers": ["7"]},
        {"variant": "lora", "layers": [-1]},
        {"variant": "lora", "layers": [True]},
        {"variant": "lora", "target_parameters": "all"},
        {"variant": "lora", "trainable_tokens": [True]},
        {"variant": "lora", "trainable_tokens": [""]},
        {"variant": "lora", "rank": 4.5},
        {"variant": "lora", "alpha": 0},
        {"variant": "lora", "alpha": float("inf")},
        {"variant": "lora", "dropout": 1},
        {"variant": "lora", "target_modules": "some"},
        {"variant": "lora", "target_modules": []},
        {"variant": "lora", "target_modules": [""]},
        {"variant": "lora", "lora_alpha": 4},
    ],
)
def test_values_that_mean_nothing(value: Any) -> None:
    with pytest.raises(ValidationError):
        SPECS.validate_python(value)
