"""A recipe file → a validated Recipe that knows where each of its values stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import Problem, RecipeError, Where
from lora_cli.recipe.file_text import read_text
from lora_cli.recipe.keys import UNKNOWN
from lora_cli.recipe.overrides import apply_overrides
from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.source import Source
from lora_cli.recipe.validate import validate
from lora_cli.recipe.yaml_tree import NO_VALUE, read_tree


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, the text it came from and the places of its values."""

    recipe: Recipe
    source: Source
    path: Path
    text: str
    overrides: tuple[str, ...] = ()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Return the recipe in `path` with `overrides` (`key=value`) applied.

    Raises:
        RecipeError: with every problem found, each at its `file:line:column`.
    """
    return recipe_of_text(read_text(path), path, overrides)


def recipe_of_text(text: str, path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Return the recipe that `text` is, as if it stood in `path`, with `overrides` applied.

    Raises:
        RecipeError: with every problem found.
    """
    tree = read_tree(text, str(path))
    if tree.empty:
        hint = "a recipe needs at least `model`, `adapter` and `dataset`"
        tree.problems.append(Problem(Where(str(path), 1, 1), "the recipe is empty", hint))
    apply_overrides(tree, overrides)
    source = Source(str(path), tree.keys, tree.values, tree.written)
    recipe, problems = validate(tree.value, source)
    problems = [*_said_of_known_keys(tree.problems, problems), *problems]
    if problems or recipe is None:
        problems.sort(key=lambda problem: (problem.where.line, problem.where.column))
        raise RecipeError.from_problems(problems)
    return LoadedRecipe(recipe, source, path, text, tuple(overrides))


def _said_of_known_keys(in_text: list[Problem], in_recipe: list[Problem]) -> list[Problem]:
    """Return those of `in_text` that matter: a key that is unknown needs no value."""
    keys = {each.where.key for each in in_recipe if each.message.startswith(UNKNOWN)}
    return [
        each
        for each in in_text
        if each.where.key not in keys or not each.message.endswith(NO_VALUE)
    ]
