"""CorDA: the part of the weight that acts most, or least, on such inputs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from lora_cli.adapters import Corda
from lora_cli.model.evidence import Calibration, mean_inputs
from lora_cli.model.layers import weight_of
from lora_cli.tasks.causal_lm import Batch
from tests.helpers.adapters import TARGETS
from tests.helpers.families import mean_loss
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.starts import evidence, matrix, peft_pair, product

TinyModel = Callable[[str], Path]
MODES = {"instruction_previewed": "ipm", "knowledge_preserved": "kpm"}


def moment(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.T @ inputs / len(inputs)


def effect(mode: str, inputs: torch.Tensor, weight: torch.Tensor) -> float:
    """Return the share of the outputs' energy that the part holds."""
    start = Corda(rank=4, mode=mode).start(evidence(weight, inputs=moment(inputs)))
    assert start.taken == start.first
    part = 2 * product(start.first)
    return float((inputs @ part.T).square().sum() / (inputs @ weight.T).square().sum())


def test_the_modes_take_what_acts_most_and_what_acts_least_on_the_inputs() -> None:
    weight, inputs = matrix(24, 16), matrix(200, 16, seed=1) * torch.linspace(4, 0.1, 16)
    most, least = (effect(mode, inputs, weight) for mode in MODES)
    assert most > 0.7
    assert least < 0.01


def test_with_inputs_that_have_no_direction_it_is_the_principal_part() -> None:
    weight = matrix(24, 16)
    start = Corda(rank=4).start(evidence(weight, inputs=torch.eye(16)))
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    expected = left[:, :4] * values[:4] @ right[:4]
    torch.testing.assert_close(2 * product(start.first), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_the_size_of_the_inputs_changes_nothing(size: float) -> None:
    """Otherwise A and B would drift apart by it, and learn at different speeds."""
    weight, inputs = matrix(24, 16), matrix(200, 16, seed=1)
    one, other = (
        Corda(rank=4).start(evidence(weight, inputs=moment(each))).first
        for each in (inputs, size * inputs)
    )
    torch.testing.assert_close(other.a, one.a, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(other.b, one.b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("inputs", [torch.zeros(16, 16), moment(matrix(2, 16))])
def test_inputs_of_a_few_directions_or_none_are_no_end_of_it(inputs: torch.Tensor) -> None:
    weight = matrix(24, 16)
    first = Corda(rank=4).start(evidence(weight, inputs=inputs)).first
    assert bool(product(first).isfinite().all())
    assert 0 < float((2 * product(first)).norm()) < 2 * float(weight.norm())


@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
def test_a_quantized_base_is_refused_with_a_way_out(method: str) -> None:
    assert "use eva" in Corda.capability.refusal(method, conv1d=False)


@pytest.fixture
def pefts_corda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """peft's implementation, which imports a decorator of a package that it does not depend on."""
    stand_in = SimpleNamespace(dataclass=dataclasses.dataclass)
    monkeypatch.setitem(sys.modules, "attr", stand_in)
    from peft.tuners.lora import corda

    return corda


@PLAIN_PEFT
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("mode", MODES)
def test_pefts_own_part_is_the_same(
    tiny_model: TinyModel, pefts_corda: Any, architecture: str, mode: str
) -> None:
    """For one row: of several, peft weighs each by its largest value."""
    base, other = (
        AutoModelForCausalLM.from_pretrained(tiny_model(architecture)).eval() for _ in "12"
    )
    ids = torch.arange(2, 34)[None]
    row = Batch(ids, torch.ones_like(ids), ids)
    from peft.tuners.lora.config import CordaConfig

    config = LoraConfig(
        r=4,
        lora_alpha=8,
        init_lora_weights="corda",
        corda_config=CordaConfig(corda_method=MODES[mode]),
        target_modules=TARGETS[architecture],
        fan_in_fan_out=architecture == "gpt2",
    )
    pefts_corda.preprocess_corda(other, config, lambda: other(input_ids=ids))
    wrapped = get_peft_model(other, config).base_model.model
    layers = {name: each for name, each in wrapped.named_modules() if hasattr(each, "lora_A")}
    inputs = mean_inputs(base, list(layers), Calibration([row], mean_loss))
    assert layers
    for name, layer in layers.items():
        weight = weight_of(base.get_submodule(name))
        mine = product(Corda(rank=4, mode=mode).start(evidence(weight, inputs=inputs[name])).first)
        theirs = product(peft_pair(layer))
        # both invert in float32 a matrix whose values lie four powers of ten apart
        assert float((mine - theirs).norm() / theirs.norm()) < 0.01
