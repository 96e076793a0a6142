"""Pairs that are held in bfloat16, as a recipe can ask: rounded as they start, and they learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import TypeAdapter

from lora_cli.adapters import AdapterSpec
from lora_cli.model.layers import weight_of
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.variants import Base, logits, optimizer_of, train

pytestmark = PLAIN_PEFT
TinyModel = Callable[[str], Path]
PAIR = ("lora_A", "lora_B")


def spec_of(variant: str, **fields: Any) -> Any:
    asked = {"variant": variant, "rank": 4, "dtype": "bfloat16", **fields}
    return TypeAdapter(AdapterSpec).validate_python(asked)


@pytest.mark.parametrize(
    ("variant", "method", "exact"),
    [
        ("lora", "none", True),
        ("qlora", "nf4", True),
        ("pissa", "none", False),  # what is saved is the sum of two pairs
    ],
)
def test_it_learns_and_is_saved_as_it_is(
    tiny_model: TinyModel, tmp_path: Path, variant: str, method: str, exact: bool
) -> None:
    base = Base(tiny_model("llama"), method=method, dtype="bfloat16")
    adapter = base.adapted(spec_of(variant))
    trained = [each for each in adapter.model.parameters() if each.requires_grad]
    assert {each.dtype for each in trained} == {torch.bfloat16}
    losses = train(adapter, optimizer_of(adapter, 0.02), last=12)
    assert losses[-1] < losses[0] - 0.02
    assert {each.dtype for each in trained} == {torch.bfloat16}
    assert {each.dtype for each in adapter.saved().tensors.values()} == {torch.bfloat16}
    found, widened = logits(adapter.model), logits(base.reloaded(adapter, tmp_path))
    torch.testing.assert_close(widened, found, rtol=0, atol=0.03)
    same = PeftModel.from_pretrained(base.load(), tmp_path, autocast_adapter_dtype=False)
    torch.testing.assert_close(logits(same), found, rtol=0, atol=0 if exact else 0.03)


def test_a_base_gives_up_what_the_rounded_pair_starts_with(tiny_model: TinyModel) -> None:
    """To the bit: what is left of the weight is the weight less the pair that is held."""
    base, plain = Base(tiny_model("llama"), dtype="bfloat16"), Base(tiny_model("llama")).load()
    adapter = base.adapted(spec_of("pissa"))
    saved, model = adapter.saved().tensors, adapter.model.base_model.model
    for name in adapter.starts:
        layer = model.get_submodule(name)
        a, b = (getattr(layer, part)["default"].weight.float() for part in PAIR)
        weight = plain.get_submodule(name).weight.to(torch.bfloat16).float()
        left = (weight - layer.scaling["default"] * (b @ a)).to(torch.bfloat16)
        assert weight_of(layer.base_layer).equal(left.float())
        a, b = (saved[f"base_model.model.{name}.{part}.weight"] for part in PAIR)
        (now_a, first_a), (now_b, first_b) = a.chunk(2), b.chunk(2, dim=1)
        assert now_a.equal(first_a), "before training, it adds nothing to the base of everyone"
        assert now_b.equal(-first_b)


def test_a_start_that_nothing_is_taken_for_is_rounded_alone(tiny_model: TinyModel) -> None:
    """LoftQ's base gives up the pair before the last, which nobody holds."""
    spec = spec_of("loftq", iterations=2)
    adapter = Base(tiny_model("llama"), method="nf4", dtype="bfloat16").adapted(spec)
    start = next(iter(adapter.starts.values()))
    assert start.taken is not None
    assert start.first.a.equal(start.first.a.bfloat16().float())
    assert not start.taken.a.equal(start.taken.a.bfloat16().float())
