"""A recipe beside its facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lora_cli.plan.inputs import Facts, Inputs, longest_row
from lora_cli.recipe.load import LoadedRecipe

Probed = Callable[..., tuple[LoadedRecipe, Facts]]


@pytest.mark.parametrize(
    ("asked", "context", "longest"),
    [(1024, 256, 256), (100, 256, 100), (256, 256, 256), (1024, None, 1024)],
)
def test_a_row_is_as_long_as_the_recipe_and_the_context_allow(
    probed: Probed, asked: int, context: int | None, longest: int
) -> None:
    loaded, facts = probed()
    training = loaded.recipe.training.model_copy(update={"max_length": asked})
    loaded = replace(loaded, recipe=loaded.recipe.model_copy(update={"training": training}))
    assert longest_row(loaded, replace(facts.base, context_length=context)) == longest


def test_the_inputs_are_the_recipe_and_its_places(probed: Probed) -> None:
    loaded, facts = probed()
    inputs = Inputs(loaded, facts)
    assert inputs.recipe is loaded.recipe
    assert inputs.source is loaded.source
