"""Plans of recipes on tiny models, and what they were made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_cli.plan import make
from lora_cli.plan.inputs import Facts
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe, load_recipe


@pytest.fixture
def planned(recipe_file: Callable[..., Path]) -> Callable[..., RunPlan]:
    """Return the plan of a recipe with these sections and `overrides`."""

    def plan(architecture: str = "llama", *overrides: str, **sections: Any) -> RunPlan:
        return make.make_plan(load_recipe(recipe_file(architecture, **sections), overrides))

    return plan


@pytest.fixture
def probed(
    recipe_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[LoadedRecipe, Facts]]:
    """Return a loaded recipe and the facts that were probed for it."""

    def probe(
        architecture: str = "llama", *overrides: str, **sections: Any
    ) -> tuple[LoadedRecipe, Facts]:
        loaded = load_recipe(recipe_file(architecture, **sections), overrides)
        caught: list[Facts] = []
        with monkeypatch.context() as patch:
            patch.setattr(make, "resolve_plan", lambda _loaded, facts: caught.append(facts))
            make.make_plan(loaded)
        return loaded, caught[0]

    return probe
