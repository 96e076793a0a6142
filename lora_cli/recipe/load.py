"""A recipe file → a validated Recipe that knows where each of its values stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import RecipeError, Where
from lora_cli.recipe.checks import check_recipe
from lora_cli.recipe.overrides import apply_overrides
from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.source import Source
from lora_cli.recipe.validate import validate
from lora_cli.recipe.yaml_tree import read_tree

MAX_BYTES = 256 * 1024


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
    text = _read_text(path)
    tree = read_tree(text, str(path))
    if tree.value is not None:
        apply_overrides(tree, overrides)
    source = Source(str(path), tree.keys, tree.values)
    recipe, problems = validate(tree.value, source) if tree.value is not None else (None, [])
    if recipe is not None:
        problems = check_recipe(recipe, source)
    known = {problem.where.key for problem in tree.problems}
    problems = tree.problems + [p for p in problems if p.where.key not in known]
    if problems or recipe is None:
        problems.sort(key=lambda problem: (problem.where.line, problem.where.column))
        raise RecipeError.from_problems(problems)
    return LoadedRecipe(recipe, source, path, text, tuple(overrides))


def _read_text(path: Path) -> str:
    where = Where(str(path))
    if path.is_dir():
        raise RecipeError("is a folder", where, "name the recipe's .yaml file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError("does not exist", where, _neighbours(path)) from None
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where) from None
    if len(content) > MAX_BYTES:
        size = path.stat().st_size
        message = f"is {size:,} bytes; a recipe has at most {MAX_BYTES:,}"
        raise RecipeError(message, where, "is this the recipe, or the data?")
    return _decoded(content, path)


def _decoded(content: bytes, path: Path) -> str:
    hint = "a recipe is YAML in UTF-8; is this the right file?"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise RecipeError("is not UTF-8 text", Where(str(path), line, column), hint) from None
    for line, row in enumerate(text.split("\n"), 1):
        for column, character in enumerate(row, 1):
            if character < " " and character not in "\t\r":
                message = f"holds the control character U+{ord(character):04X}"
                raise RecipeError(message, Where(str(path), line, column), hint)
    return text


def _neighbours(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    names = sorted(entry.name for entry in folder.glob("*.y*ml"))[:6]
    return f"recipes in {folder}: {', '.join(names)}" if names else "check the path"
