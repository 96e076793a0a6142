"""OLoRA: orthonormal columns and their share of the weight, as the paper and peft have it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from lora_cli.adapters import OLora
from lora_cli.model.layers import weight_of
from tests.helpers.adapters import TARGETS
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.starts import evidence, matrix, peft_pair, product

TinyModel = Callable[[str], Path]


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (8, 8)])
def test_b_is_orthonormal_and_a_is_what_the_weight_has_of_it(shape: tuple[int, int]) -> None:
    weight = matrix(*shape)
    start = OLora(rank=5).start(evidence(weight, rank=5))
    assert start.taken == start.first
    torch.testing.assert_close(start.first.b.T @ start.first.b, torch.eye(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(start.first.a, start.first.b.T @ weight, atol=1e-5, rtol=0)


def test_the_first_columns_of_the_weight_are_taken_whole() -> None:
    """R is triangular: the first r columns of W lie in the span of Q's first r."""
    weight = matrix(12, 20)
    start = OLora(rank=5).start(evidence(weight, rank=5))
    torch.testing.assert_close(product(start.first)[:, :5], weight[:, :5], atol=1e-5, rtol=0)


@PLAIN_PEFT
def test_pefts_own_factors_are_the_same(tiny_model: TinyModel) -> None:
    """On nn.Linear: for GPT-2's layers peft forgets that they lie the other way."""
    base, other = (AutoModelForCausalLM.from_pretrained(tiny_model("llama")) for _ in "12")
    config = LoraConfig(
        r=4, lora_alpha=12, init_lora_weights="olora", target_modules=TARGETS["llama"]
    )
    wrapped = get_peft_model(other, config).base_model.model
    layers = {name: each for name, each in wrapped.named_modules() if hasattr(each, "lora_A")}
    assert layers
    for name, layer in layers.items():
        weight = weight_of(base.get_submodule(name))
        start = OLora(rank=4, alpha=12.0).start(evidence(weight, scaling=3.0)).first
        theirs = peft_pair(layer)
        torch.testing.assert_close(start.a, theirs.a, atol=1e-6, rtol=0)
        torch.testing.assert_close(start.b, theirs.b, atol=1e-6, rtol=0)
        left = weight - 3 * product(start)
        torch.testing.assert_close(left, layer.base_layer.weight, atol=1e-6, rtol=0)
