"""LoHa: its parameters and its equation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_cli.adapters.loha import LoHa
from tests.helpers.linear_layers import SHAPES, adapted, counted, trained_by_peft


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("rank", [1, 4, 30])
def test_peft_trains_as_many_numbers(shapes: Any, rank: int) -> None:
    assert trained_by_peft(LoHa(rank=rank), *shapes) == counted(LoHa(rank=rank), *shapes)


@pytest.mark.parametrize(("alpha", "scaling"), [(None, 1.0), (6.0, 2.0)])
def test_the_update_is_its_equation(alpha: float | None, scaling: float) -> None:
    model, _ = adapted(LoHa(rank=3, alpha=alpha), (20, 16))
    layer = model.base_model.model.m0
    b1, a1, b2, a2 = (
        getattr(layer, f"hada_w{pair}_{part}")["default"] for pair in (1, 2) for part in "ab"
    )
    assert not a2.any(), "it starts as the base"
    torch.nn.init.normal_(a2)
    update = scaling * (b1 @ a1) * (b2 @ a2)
    assert torch.linalg.matrix_rank(update) == 3**2
    inputs = torch.randn(5, 20)
    added = layer(inputs) - layer.base_layer(inputs)
    torch.testing.assert_close(added, inputs @ update.T, rtol=1e-5, atol=1e-5)
