"""P-tuning: the network that makes its embeddings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PromptEncoder

from lora_cli.adapters.p_tuning import PTuning
from tests.helpers.settings import setting


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 30),
    encoder=st.sampled_from(["mlp", "lstm"]),
    size=st.none() | st.integers(1, 40),
)
def test_the_count_is_that_of_peft_s_network(count: int, encoder: str, size: int | None) -> None:
    spec = PTuning.model_validate(
        {"virtual_tokens": count, "encoder": encoder, "encoder_size": size}
    ).settled(setting())
    config = spec.peft_config([])
    config.token_dim, config.num_transformer_submodules = 32, 1
    network = PromptEncoder(config)
    expected = sum(each.numel() for each in network.parameters())
    assert spec.trainable_parameters(setting()) == expected


@pytest.mark.parametrize(("given", "size"), [(None, 32), (5, 5)])
def test_left_out_the_network_is_as_wide_as_the_model(given: int | None, size: int) -> None:
    assert PTuning(encoder_size=given).settled(setting()).encoder_size == size
