"""LoRA-GA: singular vectors of the gradient, so that the first step goes as fine-tuning's does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import preprocess_loraga
from peft.tuners.lora.config import LoraGAConfig
from transformers import AutoModelForCausalLM

from lora_cli.adapters import LoraGa
from lora_cli.model.evidence import Calibration, mean_gradients
from lora_cli.model.layers import weight_of
from tests.helpers.families import FAMILIES, batch, mean_loss
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.starts import evidence, matrix, peft_pair, product, smallest_cosine, with_values


def test_a_has_the_first_right_vectors_and_b_the_next_left_ones() -> None:
    gradient = with_values(20, 12, [9.0, 7.0, 5.0, 3.0, 1.0])
    left, _, right = torch.linalg.svd(gradient)
    start = LoraGa(rank=2).start(evidence(matrix(20, 12), rank=2, gradient=gradient))
    assert start.taken == start.first
    assert smallest_cosine(start.first.a, right[:2]) > 1 - 1e-5
    assert smallest_cosine(start.first.b.T, left[:, 2:4].T) > 1 - 1e-5


@pytest.mark.parametrize("gamma", [1.0, 16.0, 64.0])
@pytest.mark.parametrize("outputs", [16, 81])
def test_the_scale_is_the_papers_and_not_the_gradients(gamma: float, outputs: int) -> None:
    for size in (1e-6, 1.0):
        gradient = size * matrix(outputs, 16)
        start = LoraGa(rank=2, gamma=gamma).start(
            evidence(matrix(outputs, 16), rank=2, gradient=gradient)
        )
        expected = torch.full((2,), outputs**0.25 / gamma**0.5)
        torch.testing.assert_close(start.first.a.norm(dim=1), expected)
        torch.testing.assert_close(start.first.b.norm(dim=0), expected)


def test_the_first_step_is_the_nearest_to_full_fine_tunings() -> None:
    """Theorem 3.1: a step changes B·A by B·Bᵀ·G + G·Aᵀ·A; it holds 2r of G's singular values."""
    gradient = matrix(20, 12)
    pair = (
        LoraGa(rank=3, gamma=1.0).start(evidence(matrix(20, 12), rank=3, gradient=gradient)).first
    )
    a, b = pair.a / pair.a.norm(dim=1)[:, None], pair.b / pair.b.norm(dim=0)
    step = b @ b.T @ gradient + gradient @ a.T @ a
    values = torch.linalg.svdvals(gradient)
    torch.testing.assert_close(torch.linalg.svdvals(step)[:6], values[:6], atol=1e-4, rtol=0)
    assert float((gradient - step).norm()) == pytest.approx(float(values[6:].norm()), rel=1e-4)


def test_a_and_b_need_twice_the_rank_of_the_gradient() -> None:
    assert list(LoraGa(rank=4).problems(setting((8, 9)))) == []
    (problem,) = LoraGa(rank=5).problems(setting((8, 9)))
    assert problem.message == "lora_ga starts `m0` (9 × 8) with rank 4 at most"


@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
def test_a_quantized_base_is_refused_with_a_way_out(method: str) -> None:
    assert "use eva" in LoraGa.capability.refusal(method, conv1d=False)


@PLAIN_PEFT
@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_pefts_own_directions_are_the_same(tmp_path: Path, architecture: str) -> None:
    """The sizes are not: peft leaves the gradient's singular values in B, which the paper does not.

    A rank at which peft's randomised SVD looks at all directions, and no two values lie close.
    """
    family = FAMILIES[architecture]
    folder = family.write(tmp_path)
    base, other = (AutoModelForCausalLM.from_pretrained(folder).eval() for _ in "12")
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        init_lora_weights="lora_ga",
        lora_ga_config=LoraGAConfig(),
        target_modules=list(family.leaves),
        fan_in_fan_out=architecture == "gpt2",
    )
    preprocess_loraga(other, config, lambda: mean_loss(other, batch()).backward())
    wrapped = get_peft_model(other, config).base_model.model
    layers = {name: each for name, each in wrapped.named_modules() if hasattr(each, "lora_A")}
    gradients = mean_gradients(base, list(layers), Calibration([batch()], mean_loss))
    assert layers
    for name, layer in layers.items():
        weight = weight_of(base.get_submodule(name))
        given = evidence(weight, rank=8, gradient=gradients[name])
        mine, theirs = LoraGa(rank=8).start(given).first, peft_pair(layer)
        assert smallest_cosine(mine.a, theirs.a) > 0.9999
        assert smallest_cosine(mine.b.T, theirs.b.T) > 0.9999
        assert bool(product(mine).isfinite().all())
