"""The plan's task, with all that its data decides."""

from __future__ import annotations

from typing import Any

from lora_cli.data.labels import found_labels
from lora_cli.errors import PlanError
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.paths import RowSources
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.tasks import TaskSpec


def settled_task(loaded: LoadedRecipe, rows: RowSources) -> TaskSpec:
    """Return the recipe's task with the labels that its training rows hold.

    Raises:
        PlanError: the rows cannot be read, or labels are named that cannot be.
    """
    task, named = loaded.recipe.task, getattr(loaded.recipe.task, "labels", None)
    if named is not None:
        _check_labels(loaded, named)
    if not task.needs_labels:
        return task
    several = getattr(task, "problem", "") == "multi_label"
    return task.model_copy(update={"labels": found_labels(rows.train, several=several)})


def _check_labels(loaded: LoadedRecipe, named: tuple[str, ...]) -> None:
    where = loaded.source.of_value(("task", "labels"))
    twice = [name for name in named if named.count(name) > 1]
    if twice:
        raise PlanError(f"the label `{twice[0]}` stands there twice", where, "remove one of them")
    if len(named) == 1:
        raise PlanError(f"`{named[0]}` is the only label", where, "name all labels that rows hold")
    if getattr(loaded.recipe.task, "problem", "") == "regression":
        message = "regression learns a number, and has no labels"
        raise PlanError(message, where, "remove them, or set `task.problem: single_label`")


def resolve_task(inputs: Inputs, reasons: Reasons) -> TaskSpec:
    """Return the task with every value filled in."""
    task = inputs.facts.task
    for name, value in task.model_dump().items():
        measured = name == "labels" and inputs.recipe.task.needs_labels
        found = f"found in the rows: {len(value)}" if measured else ""
        shown = ", ".join(value) if isinstance(value, list | tuple) else value
        reasons.take("task", name, value=shown, measured=found)
    return task


def config_changes(plan: RunPlan) -> dict[str, Any]:
    """Return what the task changes in the base's config.

    A decoder that classifies finds a row's last token by what it is padded with, and needs to know.
    """
    changes = plan.task.config_changes()
    return {**changes, "pad_token_id": plan.model.padding_token} if changes else {}
