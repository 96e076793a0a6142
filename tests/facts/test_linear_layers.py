"""Which linear layers can be adapted: those that are called."""

from __future__ import annotations

import peft
import pytest
import torch
import transformers

from lora_cli.facts.linear_layers import layers_and_others, uncalled_layers
from tests.helpers.architectures import SMALL_CONFIGS, model_of


class Pooled(torch.nn.Module):
    """A tower that ends as SigLIP's does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(8, 8)
        self.attention = torch.nn.MultiheadAttention(8, 2)

    def get_output_embeddings(self) -> None:
        """Return None, as a tower does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(x)
        return self.attention(x, x, x)[0]


def test_a_layer_whose_weight_is_read_is_no_layer_to_adapt() -> None:
    uncalled = [each.name for each in uncalled_layers(Pooled())]
    assert uncalled == ["attention.out_proj"]
    layers, others = layers_and_others(Pooled(), uncalled)
    assert [each.name for each in layers] == ["inner"]
    assert "attention.out_proj" in others


@pytest.mark.parametrize(("name", "trained"), [("inner", True), ("attention.out_proj", False)])
def test_peft_gives_it_an_adapter_without_a_gradient(name: str, trained: bool) -> None:
    config = peft.LoraConfig(r=2, target_modules=[name])
    model = peft.get_peft_model(Pooled(), config)
    model(torch.randn(3, 1, 8, requires_grad=True)).sum().backward()
    gradients = [p.grad is not None for n, p in model.named_parameters() if "lora_" in n]
    assert gradients == [trained] * 2


@pytest.mark.parametrize(
    ("architecture", "uncalled"),
    [("mamba", {"dt_proj"}), ("jamba", {"dt_proj"}), ("gemma3", {"out_proj"}), ("llama", set())],
)
def test_layers_that_lend_their_weight_are_told_by_the_code_around_them(
    architecture: str, uncalled: set[str]
) -> None:
    model, _ = model_of(architecture)
    assert {each.name.rpartition(".")[2] for each in uncalled_layers(model)} == uncalled


@pytest.mark.parametrize("architecture", ["mamba", "jamba"])
def test_all_others_get_a_gradient(architecture: str) -> None:
    config_class, values = SMALL_CONFIGS[architecture]
    config = getattr(transformers, config_class)(**values)
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    uncalled = [each.name for each in uncalled_layers(model)]
    layers = [each.name for each in layers_and_others(model, uncalled)[0]]
    called: set[str] = set()
    for name in (*layers, *uncalled):
        hook = lambda *_, name=name: called.add(name)  # noqa: E731
        model.get_submodule(name).register_full_backward_hook(hook)
    tokens = torch.arange(2, 10)[None]
    model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    assert called == set(layers)
