"""The arguments of `loracli inspect-targets` → the recipe that they amount to.

A model's name stands for a recipe with that model, plain LoRA and no data. Options are values of
the recipe, checked as those are; what is wrong with one is said of the option.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lora_cli.errors import LoraCliError, RecipeError
from lora_cli.recipe.load import LoadedRecipe, load_recipe
from lora_cli.recipe.options import at_options, by_override, placed
from lora_cli.recipe.overrides import apply_overrides
from lora_cli.recipe.source import Source
from lora_cli.recipe.validate import validate
from lora_cli.recipe.yaml_tree import read_tree
from lora_cli.targets.written import Written, overrides_of, read_targets

RECIPE_SUFFIXES = (".yaml", ".yml")
_ANY_RECIPE = "model: name\nadapter: lora\ndataset: rows\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed."""

    model_or_recipe: str
    targets: tuple[str, ...] = ()
    rank: int | None = None
    variant: str | None = None
    quantization: str | None = None
    overrides: tuple[str, ...] = ()

    @property
    def of_recipe(self) -> bool:
        """Return whether a recipe was named, and not a model."""
        return self.model_or_recipe.endswith(RECIPE_SUFFIXES)


@dataclass(frozen=True)
class AskedRecipe:
    """The recipe, and the patterns of `--targets` as they were typed."""

    loaded: LoadedRecipe
    written: tuple[Written, ...]
    task_is_open: bool
    """Whether nothing says what the model is trained for."""


def asked_recipe(asked: Asked) -> AskedRecipe:
    """Return the recipe that the arguments amount to.

    Raises:
        LoraCliError: the recipe or an option is wrong; every problem at once.
    """
    written = read_targets(asked.targets)
    flags = _flags(asked, written)
    overrides = [*asked.overrides, *flags]
    options = by_override(flags)
    try:
        if asked.of_recipe:
            loaded = load_recipe(Path(asked.model_or_recipe), overrides)
        else:
            loaded = _recipe_of(asked.model_or_recipe, overrides)
    except LoraCliError as error:
        raise type(error).from_problems(at_options(error.problems, options)) from error
    is_open = not asked.of_recipe and not any(each.startswith("task") for each in asked.overrides)
    return AskedRecipe(placed(loaded, options), written, is_open)


def _flags(asked: Asked, written: tuple[Written, ...]) -> dict[str, str]:
    """Return each option as `key=value`, and how it was typed."""
    options = {
        "--variant": ("adapter", asked.variant),
        "--rank": ("adapter.rank", asked.rank),
        "--quantization": ("quantization", asked.quantization),
    }
    flags = {
        f"{key}={value}": f"{option} {value}"
        for option, (key, value) in options.items()
        if value is not None
    }
    return flags | dict.fromkeys(overrides_of(written), f"--targets {','.join(asked.targets)}")


def _recipe_of(model: str, overrides: Iterable[str]) -> LoadedRecipe:
    """Return a recipe with this model and no data.

    Raises:
        RecipeError: an override is wrong.
    """
    tree = read_tree(_ANY_RECIPE, "")
    tree.value["model"] = {"name": model}
    apply_overrides(tree, overrides)
    source = Source("", tree.keys, tree.values, tree.written)
    recipe, problems = validate(tree.value, source)
    if tree.problems or recipe is None or problems:
        raise RecipeError.from_problems([*tree.problems, *problems])
    return LoadedRecipe(recipe, source, Path.cwd() / "recipe.yaml", _ANY_RECIPE, tuple(overrides))
