"""Prompt tuning: its embeddings, and the words that they start as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lora_cli.adapters.prompt_tuning import PromptTuning
from tests.helpers.prompts import Prompted
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.settings import setting
from tests.helpers.variants import logits, tokens

TinyModel = Callable[[str], Path]

pytestmark = PLAIN_PEFT


def test_trained_is_one_embedding_a_token() -> None:
    assert PromptTuning(virtual_tokens=7).trainable_parameters(setting()) == 7 * 32


def test_without_a_text_it_starts_as_random_words(tiny_model: TinyModel) -> None:
    model = Prompted(tiny_model("llama")).adapted(PromptTuning(virtual_tokens=6)).model
    words = model.get_input_embeddings().weight
    for embedding in model.prompt_encoder["default"].embedding.weight:
        assert (words == embedding).all(dim=1).any()


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2"])
def test_a_text_is_as_if_it_stood_there(tiny_model: TinyModel, architecture: str) -> None:
    base = Prompted(tiny_model(architecture), architecture)
    model, spec = base.adapted(PromptTuning(virtual_tokens=3)).model, PromptTuning(virtual_tokens=3)
    spec.put_text(model, [30, 40, 50])
    written = torch.cat((torch.tensor([[30, 40, 50]] * 2), tokens()), dim=1)
    with torch.no_grad():
        expected = base.load()(input_ids=written).logits
    # float32's rounding of the same sums in another order
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-6)
