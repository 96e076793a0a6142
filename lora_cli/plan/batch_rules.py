"""What makes packed batches impossible, one small function each."""

from __future__ import annotations

from collections.abc import Iterator

from lora_cli.adapters.prompt import PromptSpec
from lora_cli.errors import Problem
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.run_plan import RunPlan

INSTEAD = "set `training.batching: length_grouped`, which pads little"


def _architecture(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    obstacle = inputs.facts.base.packing_obstacle
    if obstacle and plan.schedule.batching == "packed":
        yield _problem(inputs, f"{plan.model.architecture} cannot train on packs: {obstacle}")


def _virtual_tokens(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    spec = plan.adapter.spec
    if isinstance(spec, PromptSpec) and plan.schedule.batching == "packed":
        message = f"{spec.variant} puts its vectors in front of a row: of a pack, before the first"
        yield _problem(inputs, f"{message} document alone")


def _task(plan: RunPlan, inputs: Inputs) -> Iterator[Problem]:
    if plan.task.name != "causal_lm" and plan.schedule.batching == "packed":
        yield _problem(inputs, f"packs are for causal_lm, and the task is {plan.task.name}")


def _problem(inputs: Inputs, message: str) -> Problem:
    return Problem(inputs.source.of_value(("training", "batching")), message, INSTEAD)


BATCH_RULES = (_architecture, _virtual_tokens, _task)
