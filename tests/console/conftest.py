"""A preview in which something is found of every kind."""

from __future__ import annotations

import pytest

from lora_cli.data.preview import Preview
from lora_cli.plan.run_plan import RunPlan
from tests.console.previews import WriteRecipe, made
from tests.helpers.tiny_models import sum_rows, write_rows


@pytest.fixture
def found(recipe_file: WriteRecipe) -> tuple[RunPlan, Preview]:
    """Return the preview of rows of which one is bad, one is there twice and one leaks."""
    recipe = recipe_file(
        dataset={"path": "rows.jsonl", "on_bad_row": "skip"}, evaluation={"path": "apart.jsonl"}
    )
    write_rows(recipe.parent / "apart.jsonl", sum_rows(3)[2:])
    return made(recipe, [*sum_rows(8), {"messages": 1}, *sum_rows(1)])
