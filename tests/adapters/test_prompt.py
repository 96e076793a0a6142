"""Prompt methods: no module is adapted; the vectors are saved, and what makes them is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.adapters.p_tuning import PTuning
from lora_cli.adapters.prefix_tuning import PrefixTuning
from lora_cli.adapters.prompt import PromptSpec, fitted
from lora_cli.adapters.prompt_tuning import PromptTuning
from lora_cli.model.adapter import AttachedAdapter, enable_gradient_checkpointing
from tests.helpers.prompts import Prompted
from tests.helpers.runs import PLAIN_PEFT
from tests.helpers.variants import logits, optimizer_of, tokens, train

TinyModel = Callable[[str], Path]
SPECS = {
    "prompt_tuning": PromptTuning(virtual_tokens=5),
    "p_tuning": PTuning(virtual_tokens=5, encoder_size=6),
    "p_tuning lstm": PTuning(virtual_tokens=5, encoder="lstm"),
    "prefix_tuning": PrefixTuning(virtual_tokens=5),
    "prefix_tuning projection": PrefixTuning(virtual_tokens=5, projection_size=7),
}
KEY_SIZES = {"llama": 16, "gpt2": 32, "qwen2": 16}
RATES = {"prompt_tuning": 0.3, "p_tuning": 0.03, "prefix_tuning": 0.1}
FALLS = 0.005
"""What comes before hardly moves a small random model; the matrix shows more on larger weights."""

pytestmark = [PLAIN_PEFT, pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast")]
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def parameters(adapter: AttachedAdapter) -> list[torch.nn.Parameter]:
    return [each for each in adapter.model.parameters() if each.requires_grad]


@every_spec
@pytest.mark.parametrize("architecture", KEY_SIZES)
def test_the_count_is_that_of_the_model(
    tiny_model: TinyModel, architecture: str, spec: PromptSpec
) -> None:
    base = Prompted(tiny_model(architecture), architecture)
    adapter = base.adapted(spec)
    setting = replace(base.setting(), modules=[], key_value_size=KEY_SIZES[architecture])
    expected = spec.settled(setting).trainable_parameters(setting)
    assert sum(each.numel() for each in parameters(adapter)) == expected


@every_spec
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_it_learns_and_reloads(
    tiny_model: TinyModel, tmp_path: Path, architecture: str, spec: PromptSpec
) -> None:
    base = Prompted(tiny_model(architecture), architecture)
    adapter = base.adapted(spec)
    losses = train(adapter, optimizer_of(adapter, RATES[spec.variant]))
    assert losses[-1] < losses[0] - FALLS
    found = logits(adapter.model)
    torch.testing.assert_close(logits(base.reloaded(adapter, tmp_path)), found, rtol=0, atol=1e-5)


@every_spec
def test_the_state_brings_training_back(tiny_model: TinyModel, spec: PromptSpec) -> None:
    base = Prompted(tiny_model("llama"))
    adapter, other = base.adapted(spec), base.adapted(spec, seed=1)
    train(adapter, optimizer_of(adapter, 0.01), last=2)
    state = adapter.state()
    assert sum(tensor.numel() for tensor in state.values()) == sum(
        each.numel() for each in parameters(adapter)
    )
    assert not logits(other.model).equal(logits(adapter.model))
    other.load_state(state)
    assert logits(other.model).equal(logits(adapter.model))


@every_spec
def test_saved_are_the_vectors_alone(tiny_model: TinyModel, spec: PromptSpec) -> None:
    saved = Prompted(tiny_model("llama")).adapted(spec).saved()
    width = 2 * 2 * 16 if isinstance(spec, PrefixTuning) else 32
    assert {name: tuple(each.shape) for name, each in saved.tensors.items()} == {
        "prompt_embeddings": (5, width)
    }


@every_spec
def test_what_is_saved_does_not_change_what_trains(tiny_model: TinyModel, spec: PromptSpec) -> None:
    """peft skips the network that makes the vectors once a configuration is one of inference."""
    adapter = Prompted(tiny_model("llama")).adapted(spec)
    before = logits(adapter.model)
    adapter.saved().config.inference_mode = True
    assert logits(adapter.model).equal(before)


@every_spec
def test_the_start_depends_on_the_seed_alone(tiny_model: TinyModel, spec: PromptSpec) -> None:
    base = Prompted(tiny_model("llama"))
    one, same, other = (base.adapted(spec, seed=seed).state() for seed in (1, 1, 2))
    assert all(one[name].equal(same[name]) for name in one)
    assert not all(one[name].equal(other[name]) for name in one)


@every_spec
@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_a_quantized_base_stays_and_the_vectors_learn(
    tiny_model: TinyModel, tmp_path: Path, method: str, spec: PromptSpec
) -> None:
    base = Prompted(tiny_model("llama"), method=method)
    adapter = base.adapted(spec)
    losses = train(adapter, optimizer_of(adapter, RATES[spec.variant]))
    assert losses[-1] < losses[0] - FALLS
    found, reloaded = logits(adapter.model), logits(base.reloaded(adapter, tmp_path))
    torch.testing.assert_close(reloaded, found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["prompt_tuning", "p_tuning"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradient_checkpointing_gives_the_same_gradients(
    tiny_model: TinyModel, architecture: str, name: str
) -> None:
    gradients: list[list[Any]] = []
    for checkpointing in (False, True):
        adapter = Prompted(tiny_model(architecture), architecture).adapted(SPECS[name])
        if checkpointing:
            enable_gradient_checkpointing(adapter.model)
        model = adapter.model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model(input_ids=tokens(), labels=tokens(), use_cache=False).loss.backward()
        gradients.append([each.grad for each in parameters(adapter)])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain.any()
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [7]), (3, [7, 8, 9]), (5, [7, 8, 9, 7, 8]), (7, [7, 8, 9] * 2 + [7])],
)
def test_tokens_are_repeated_or_cut_to_fit(count: int, expected: list[int]) -> None:
    assert fitted([7, 8, 9], count).tolist() == expected
