"""FourierFT: its parameters, its equation, and more frequencies than there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.adapters.fourierft import FourierFt
from tests.helpers.linear_layers import SHAPES, adapted, counted, trained_by_peft
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.variants import Base


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("frequencies", [1, 64])
def test_peft_trains_as_many_numbers(shapes: Any, frequencies: int) -> None:
    spec = FourierFt(frequencies=frequencies)
    assert trained_by_peft(spec, *shapes) == counted(spec, *shapes)


def test_the_update_is_its_equation() -> None:
    model, _ = adapted(FourierFt(frequencies=9, scaling=7.0), (6, 4))
    layer = model.base_model.model.m0
    values = layer.fourierft_spectrum["default"]
    assert not values.any(), "it starts as the base"
    torch.nn.init.normal_(values)
    spectrum = torch.zeros(4, 6)
    rows, columns = layer.indices["default"]
    spectrum[rows, columns] = values.detach()
    assert int(spectrum.count_nonzero()) == 9, "nine places, no two alike"
    update = 7.0 * torch.fft.ifft2(spectrum).real
    inputs = torch.randn(5, 6)
    added = layer(inputs) - layer.base_layer(inputs)
    torch.testing.assert_close(added, inputs @ update.T, rtol=1e-5, atol=1e-5)


def test_more_frequencies_than_the_smallest_module_has_are_a_problem() -> None:
    (problem,) = FourierFt(frequencies=513).problems(setting((32, 32), (16, 32)))
    assert problem.field == "frequencies"
    assert problem.message == "513 frequencies are over the 512 of `m1`"
    assert problem.hint == "use at most 512"
    assert not list(FourierFt(frequencies=512).problems(setting((32, 32), (16, 32))))


@PLAIN_PEFT
def test_the_places_are_drawn_with_the_recipe_s_seed(tiny_model: Callable[[str], Path]) -> None:
    def places(seed: int) -> torch.Tensor:
        model = Base(tiny_model("llama")).adapted(FourierFt(frequencies=9), seed=seed).model
        found: torch.Tensor = model.base_model.model.model.layers[0].mlp.up_proj.indices["default"]
        return found

    assert places(1).equal(places(1))
    assert not places(1).equal(places(2))
