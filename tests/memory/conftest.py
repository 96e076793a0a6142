"""Subjects on tiny models, and a simulation that costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.memory import estimate as estimating
from lora_cli.memory.closed_form import closed_form
from lora_cli.memory.devices import find_device
from lora_cli.memory.estimate import Traced
from lora_cli.memory.subject import Subject, subject_of_recipe, subject_of_settings
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import load_recipe
from tests.helpers.model_folders import config_folder


@pytest.fixture
def subject(recipe_file: Callable[..., Path]) -> Callable[..., Subject]:
    """Return a recipe on a tiny model with these sections, for a GPU of the table."""

    def make(*overrides: str, device: str = "A100 80GB", **sections: object) -> Subject:
        loaded = load_recipe(recipe_file(**sections), overrides)
        return subject_of_recipe(loaded).on(find_device(device).machine())

    return make


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the config of a Llama of 110M parameters, without weights or tokenizer."""
    return config_folder(
        tmp_path_factory.mktemp("llama"),
        "LlamaConfig",
        vocab_size=32000,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=4,
        num_attention_heads=16,
        num_key_value_heads=4,
        max_position_embeddings=4096,
    )


@pytest.fixture
def bare(llama: Path) -> Callable[..., Subject]:
    """Return the Llama with settings alone, for a GPU of the table."""

    def make(*settings: str, device: str = "A100 80GB") -> Subject:
        found = subject_of_settings([f"model={llama}", "adapter=lora", *settings], {})
        return found.on(find_device(device).machine())

    return make


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[RunPlan]:
    """Let the closed form stand in for the simulation; return the plans that it gets."""
    plans: list[RunPlan] = []

    def traced(subject: Subject, *, simulated: bool = True) -> Traced:
        assert simulated
        plans.append(subject.plan)
        return Traced(closed_form(subject.plan, subject.facts.base, subject.batch), "simulated")

    monkeypatch.setattr(estimating, "traced", traced)
    return plans
