"""All that a plan is made from: what was probed, and the recipe that asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_cli.adapters.prompt import PromptSpec
from lora_cli.data.batches.units import Units
from lora_cli.data.chat.chat_template import TemplateReading
from lora_cli.errors import PlanError
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.dataset import DatasetFacts
from lora_cli.facts.machine import MachineFacts
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.recipe.schema import Recipe
from lora_cli.recipe.source import Source
from lora_cli.targets.match import Matched
from lora_cli.tasks import TaskSpec

SHORTEST_ROW = 8
"""As for `training.max_length`."""


@dataclass(frozen=True)
class Facts:
    """All that was probed for one plan."""

    machine: MachineFacts
    task: TaskSpec
    """With the labels that the rows hold."""
    base: BaseModelFacts
    matched: Matched
    token_ids: tuple[int, ...]
    """Of the tokens whose embeddings are trained."""
    dataset: DatasetFacts
    units: Units
    tokenizer_sha256: str
    chat_template_sha256: str | None
    chat_template: str | None
    """The text of the template that the recipe names."""
    template: TemplateReading
    stop_tokens: dict[str, int]
    padding_token: int
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


def longest_row(loaded: LoadedRecipe, base: BaseModelFacts) -> int:
    """Return the tokens kept of a row: `max_length`, or what the model's context has room for.

    Raises:
        PlanError: an adapter's virtual tokens leave no room.
    """
    asked, spec = loaded.recipe.training.max_length, loaded.recipe.adapter
    if base.context_length is None:
        return asked
    taken = spec.virtual_tokens if isinstance(spec, PromptSpec) else 0
    room = base.context_length - taken
    if taken and room < SHORTEST_ROW:
        message = f"the model's context of {base.context_length} tokens has no room left for rows"
        where = loaded.source.of_value(("adapter", "virtual_tokens"))
        raise PlanError(message, where, f"at most {base.context_length - SHORTEST_ROW}")
    return min(asked, room)
