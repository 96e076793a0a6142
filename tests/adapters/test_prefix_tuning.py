"""Prefix tuning: its keys and values, and the words that they start as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.adapters.prefix_tuning import PrefixTuning
from tests.helpers.prompts import Prompted
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.variants import logits, tokens

TinyModel = Callable[[str], Path]

pytestmark = PLAIN_PEFT


@given(count=st.integers(1, 500))
def test_trained_are_keys_and_values_of_every_layer(count: int) -> None:
    assert PrefixTuning(virtual_tokens=count).trainable_parameters(setting()) == count * 2 * 2 * 16


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("method", ["none", "nf4"])
def test_a_text_is_as_if_it_stood_there(
    tiny_model: TinyModel, architecture: str, method: str
) -> None:
    base = Prompted(tiny_model(architecture), architecture, method)
    spec = PrefixTuning(virtual_tokens=3)
    model = base.adapted(spec).model
    spec.put_text(model, [30, 40, 50])
    written = torch.cat((torch.tensor([[30, 40, 50]] * 2), tokens()), dim=1)
    with torch.no_grad():
        expected = base.load()(input_ids=written).logits[:, 3:]
    # float32's rounding of the same sums in another order
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-6)


def test_without_a_text_it_starts_as_other_words(tiny_model: TinyModel) -> None:
    base = Prompted(tiny_model("llama"))
    prefix = base.adapted(PrefixTuning(virtual_tokens=6)).state()
    (rows,) = prefix.values()
    same = base.adapted(PrefixTuning(virtual_tokens=6))
    torch.manual_seed(0)
    PrefixTuning(virtual_tokens=6).put_text(same.model, torch.randint(259, (6,)).tolist())
    assert rows.shape == (6, 64)
    assert rows.abs().max() < 1, "a model's own keys and values, and not a normal distribution's"


def test_a_network_does_not_start_as_a_text() -> None:
    (problem,) = PrefixTuning(text="Add.", projection_size=4).problems(setting())
    assert problem.field == "text"
    assert problem.hint == "leave one of the two out"
    assert not list(PrefixTuning(text="Add.").problems(setting()))
    assert not list(PrefixTuning(projection_size=4).problems(setting()))
