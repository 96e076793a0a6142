"""What was typed, as a recipe; faults are said of the option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.adapters.vera import Vera
from lora_cli.errors import LoraCliError
from lora_cli.targets.asked import Asked, asked_recipe


def test_a_model_is_a_recipe_with_lora() -> None:
    asked = asked_recipe(Asked("owner/name"))
    assert asked.loaded.recipe.model.name == "owner/name"
    assert asked.loaded.recipe.adapter.variant == "lora"
    assert asked.task_is_open


def test_options_are_values_of_the_recipe() -> None:
    options = {"rank": 8, "variant": "vera", "quantization": "nf4", "targets": ("q_proj,v_proj",)}
    recipe = asked_recipe(Asked("x", **options)).loaded.recipe
    assert isinstance(recipe.adapter, Vera)
    assert (recipe.adapter.rank, recipe.adapter.target_modules) == (8, ("q_proj", "v_proj"))
    assert recipe.quantization is not None
    assert recipe.quantization.method == "nf4"


def test_a_task_that_is_set_is_not_open() -> None:
    asked = asked_recipe(Asked("x", overrides=("task=token_classification",)))
    assert not asked.task_is_open


def test_a_recipe_keeps_what_no_option_says(recipe_file: Callable[..., Path]) -> None:
    path = recipe_file(adapter={"variant": "lora", "rank": 4, "layers": [1]})
    asked = asked_recipe(Asked(str(path), targets=("mlp",)))
    adapter = asked.loaded.recipe.adapter
    assert (adapter.rank, adapter.layers, adapter.target_modules) == (4, (1,), "mlp")
    assert not asked.task_is_open


def test_every_fault_at_once_each_at_its_option() -> None:
    with pytest.raises(LoraCliError) as caught:
        asked_recipe(Asked("x", rank=-1, quantization="nf5", overrides=("adapter.dropuot=1",)))
    places = [problem.where.file for problem in caught.value.problems]
    assert sorted(set(places)) == ["--quantization nf5", "--rank -1", "--set adapter.dropuot=1"]


def test_a_place_of_the_recipe_stays_its_place(recipe_file: Callable[..., Path]) -> None:
    path = recipe_file()
    asked = asked_recipe(Asked(str(path), rank=2))
    source = asked.loaded.source
    assert source.of_value(("adapter", "rank")).file == "--rank 2"
    assert source.of_value(("model", "name")).file == str(path)
