"""PiSSA: the principal part of the weight, as the paper and peft have it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from lora_cli.adapters import Pissa
from lora_cli.adapters.singular_values import decompose
from lora_cli.model.layers import as_out_by_in, weight_of
from tests.helpers.adapters import TARGETS
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.starts import evidence, matrix, peft_pair, product, with_values

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_what_is_left_has_the_other_singular_values(shape: tuple[int, int]) -> None:
    weight = matrix(*shape)
    start = Pissa(rank=4).start(evidence(weight, rank=4, scaling=2.5))
    assert start.taken == start.first
    left = weight - 2.5 * product(start.first)
    expected = torch.cat([decompose(weight).values[4:], torch.zeros(4)])
    torch.testing.assert_close(decompose(left).values, expected, atol=1e-5, rtol=0)


def test_the_fast_one_takes_the_same_part_of_a_weight_whose_values_fall() -> None:
    weight = with_values(48, 32, [2.0**-n for n in range(16)])
    full, fast = (Pissa(rank=4, svd=svd).start(evidence(weight)).first for svd in ("full", "fast"))
    torch.testing.assert_close(product(fast), product(full), atol=1e-6, rtol=0)


def test_more_iterations_come_nearer_to_the_full_one() -> None:
    weight = matrix(96, 64)

    def left(spec: Pissa) -> float:
        return float((weight - 2 * product(spec.start(evidence(weight)).first)).norm())

    best = left(Pissa())
    one, four = (left(Pissa(svd="fast", svd_iterations=n)) for n in (1, 4))
    assert best < four < one


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_pefts_own_factors_are_the_same(tiny_model: TinyModel, architecture: str) -> None:
    base, other = (AutoModelForCausalLM.from_pretrained(tiny_model(architecture)) for _ in "12")
    config = LoraConfig(
        r=4,
        lora_alpha=12,
        init_lora_weights="pissa",
        target_modules=TARGETS[architecture],
        fan_in_fan_out=architecture == "gpt2",
    )
    wrapped = get_peft_model(other, config).base_model.model
    layers = {name: each for name, each in wrapped.named_modules() if hasattr(each, "lora_A")}
    assert layers
    for name, layer in layers.items():
        weight = weight_of(base.get_submodule(name))
        start = Pissa(rank=4, alpha=12.0).start(evidence(weight, scaling=3.0)).first
        theirs = peft_pair(layer)
        signs = (start.a * theirs.a).sum(dim=1).sign()
        # the same LAPACK call on the same numbers: no tolerance is needed but for a sign
        torch.testing.assert_close(signs[:, None] * start.a, theirs.a, atol=1e-6, rtol=0)
        torch.testing.assert_close(signs * start.b, theirs.b, atol=1e-6, rtol=0)
        left = as_out_by_in(layer.base_layer, layer.base_layer.weight)
        torch.testing.assert_close(weight - 3 * product(start), left, atol=1e-6, rtol=0)
