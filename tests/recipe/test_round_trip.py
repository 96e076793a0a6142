"""What holds for every recipe, and for every text that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_cli.errors import Problem, RecipeError
from lora_cli.recipe.load import LoadedRecipe, load_recipe
from lora_cli.recipe.schema import Recipe
from tests.recipe.strategies import FRAGMENTS, RECIPES, as_yaml

# a function-scoped folder is what we want here: each example overwrites the one file
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def load(folder: Path, content: str | bytes, *overrides: str) -> LoadedRecipe:
    path = folder / "recipe.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_recipe(path, overrides)


def outcome(folder: Path, content: str | bytes, *overrides: str) -> str:
    """Return how reading ends: a recipe or its errors, and nothing else."""
    problems: tuple[Problem, ...] = ()
    try:
        load(folder, content, *overrides)
    except RecipeError as error:
        problems = error.problems
    assert all(problem.message.isprintable() for problem in problems)
    return "refused" if problems else "accepted"


@given(values=RECIPES)
@QUICK
def test_what_is_written_is_what_is_read(values: dict[str, Any], tmp_path: Path) -> None:
    assert load(tmp_path, as_yaml(values)).recipe == Recipe.model_validate(values)


@given(values=RECIPES)
@QUICK
def test_a_recipe_written_out_in_full_loads_back_equal(
    values: dict[str, Any], tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(values)
    dumped = recipe.model_dump(mode="json", exclude_none=True)
    assert load(tmp_path, as_yaml(dumped)).recipe == recipe


@given(content=st.binary(max_size=200))
@QUICK
def test_random_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    assert outcome(tmp_path, content) == "refused"


@given(content=st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@QUICK
def test_random_text_is_refused(content: bytes, tmp_path: Path) -> None:
    assert outcome(tmp_path, content) == "refused"


@given(content=FRAGMENTS)
@settings(QUICK, max_examples=400)
def test_fragments_of_a_recipe_end_as_a_recipe_or_its_errors(content: str, tmp_path: Path) -> None:
    assert outcome(tmp_path, content) in ("refused", "accepted")


@given(start=FRAGMENTS, cut=st.integers(0, 200))
@QUICK
def test_a_recipe_with_something_in_its_middle(start: str, cut: int, tmp_path: Path) -> None:
    good = (
        "model: m\nadapter: {variant: lora, rank: 4}\ndataset:\n  - path: rows\n    max_rows: 3\n"
    )
    assert outcome(tmp_path, good[:cut] + start + good[cut:]) in ("refused", "accepted")


@given(override=FRAGMENTS | st.text(max_size=60), key=st.sampled_from(["", "seed=", "a.b[0]="]))
@QUICK
def test_random_overrides(override: str, key: str, tmp_path: Path) -> None:
    good = "model: m\nadapter: lora\ndataset: rows.jsonl\n"
    assert outcome(tmp_path, good, key + override) in ("refused", "accepted")
