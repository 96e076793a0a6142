"""All that a plan is made from: what was probed, and the recipe that asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.dataset import DatasetFacts
from lora_cli.facts.machine import MachineFacts
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.source import Source
from lora_cli.targets.match import Matched


@dataclass(frozen=True)
class Facts:
    """All that was probed for one plan."""

    machine: MachineFacts
    base: BaseModelFacts
    matched: Matched
    dataset: DatasetFacts
    tokenizer_sha256: str
    chat_template_sha256: str | None
    run_dir: Path


@dataclass(frozen=True)
class Inputs:
    """A recipe and the facts to resolve it with."""

    loaded: LoadedRecipe
    facts: Facts

    @property
    def recipe(self) -> Recipe:
        """Return what the user wrote."""
        return self.loaded.recipe

    @property
    def source(self) -> Source:
        """Return where the user wrote it."""
        return self.loaded.source


def longest_row(recipe: Recipe, base: BaseModelFacts) -> int:
    """Return the tokens kept of a row: `max_length`, or the model's context if that is shorter."""
    context = base.context_length
    return min(recipe.training.max_length, context) if context else recipe.training.max_length
