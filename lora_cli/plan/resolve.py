"""Recipe + facts → RunPlan. Pure: the same values give the same plan, and nothing is probed."""

from __future__ import annotations

from lora_cli.errors import PlanError
from lora_cli.facts.machine import MachineFacts
from lora_cli.plan.advice import find_warnings
from lora_cli.plan.data_part import resolve_data, resolve_evaluation
from lora_cli.plan.inputs import Facts, Inputs
from lora_cli.plan.model_part import resolve_adapter, resolve_model, resolve_quantization
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.rules import find_problems
from lora_cli.plan.run_plan import DevicePlan, RunPlan
from lora_cli.plan.schedule_part import resolve_optimizer, resolve_schedule
from lora_cli.plan.task_part import resolve_task
from lora_cli.recipe.load import LoadedRecipe


def resolve_plan(loaded: LoadedRecipe, facts: Facts) -> RunPlan:
    """Return the plan.

    Raises:
        PlanError: with every rule that the plan breaks.
    """
    inputs = Inputs(loaded, facts)
    plan = _plan(inputs, Reasons(loaded.source))
    problems = find_problems(plan, inputs)
    if problems:
        raise PlanError.from_problems(problems)
    return plan.model_copy(update={"warnings": tuple(find_warnings(plan, facts))})


def _plan(inputs: Inputs, reasons: Reasons) -> RunPlan:
    recipe, facts = inputs.recipe, inputs.facts
    task = resolve_task(inputs, reasons)
    model = resolve_model(inputs, reasons)
    schedule = resolve_schedule(inputs, reasons)
    optimizer = resolve_optimizer(inputs, schedule.learning_rate, reasons)
    adapter = resolve_adapter(inputs, schedule.steps, optimizer, reasons)
    quantization = resolve_quantization(inputs, model.dtype, reasons)
    data = resolve_data(inputs, reasons)
    evaluation = resolve_evaluation(inputs, schedule, reasons)
    device = _device(facts.machine, reasons)
    reasons.take("seed", value=recipe.seed)
    reasons.take("output", "dir", value=facts.run_dir, default="default: runs/<recipe name>")
    return RunPlan(
        task=task,
        model=model,
        adapter=adapter,
        quantization=quantization,
        data=data,
        evaluation=evaluation,
        schedule=schedule,
        optimizer=optimizer,
        device=device,
        seed=recipe.seed,
        run_dir=str(facts.run_dir),
        recipe_text=_recipe_text(inputs.loaded),
        decisions=tuple(reasons.decisions),
        warnings=(),
    )


def _device(machine: MachineFacts, reasons: Reasons) -> DevicePlan:
    reasons.note("device", machine.device, machine.name)
    reasons.note("processes", machine.processes, "WORLD_SIZE, or 1")
    return DevicePlan(type=machine.device, name=machine.name, memory_bytes=machine.memory_bytes)


def _recipe_text(loaded: LoadedRecipe) -> str:
    flags = "".join(f"# loracli --set {override}\n" for override in loaded.overrides)
    return loaded.text.rstrip("\n") + "\n" + flags
