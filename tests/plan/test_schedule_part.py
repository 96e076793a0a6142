"""Steps, epochs and warm-up: the arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lora_cli.data.batches.units import Units
from lora_cli.plan.inputs import Facts
from lora_cli.plan.resolve import resolve_plan
from lora_cli.plan.run_plan import RunPlan, SchedulePlan
from lora_cli.recipe.load import LoadedRecipe

Probed = Callable[..., tuple[LoadedRecipe, Facts]]


def with_rows(probed: Probed, rows: int, total: int, *flags: str) -> RunPlan:
    loaded, facts = probed("llama", *flags, training={"batch_size": 4})
    counts = {"rows": rows, "total": total, "rows_with_end": rows}
    dataset = replace(facts.dataset, train=facts.dataset.train.model_copy(update=counts))
    tokens = np.array([total // rows] * (rows - 1) + [total - total // rows * (rows - 1)])
    return resolve_plan(loaded, replace(facts, dataset=dataset, units=Units(tokens)))


def decision(plan: RunPlan, field: str) -> tuple[str, str]:
    found = next(d for d in plan.decisions if d.field == field)
    return found.value, found.reason


@pytest.mark.parametrize(
    ("rows", "flags", "per_epoch", "steps", "epochs"),
    [
        (40, [], 10, 30, 3.0),
        (41, [], 11, 33, 3.0),
        (1, [], 1, 3, 3.0),
        (40, ["training.epochs=1"], 10, 10, 1.0),
        (40, ["training.epochs=0.25"], 10, 2, 0.25),
        (40, ["training.epochs=0.01"], 10, 1, 0.01),
        (40, ["training.epochs=1.26"], 10, 13, 1.26),
        (40, ["training.steps=7"], 10, 7, 0.7),
        (40, ["training.gradient_accumulation_steps=3"], 4, 12, 3.0),
        (40, ["training.batch_size=64"], 1, 3, 3.0),
    ],
)
def test_steps_and_epochs(
    probed: Probed, rows: int, flags: list[str], per_epoch: int, steps: int, epochs: float
) -> None:
    schedule = with_rows(probed, rows, rows * 50, *flags).schedule
    found = (schedule.steps_per_epoch, schedule.steps, schedule.epochs)
    assert found == (per_epoch, steps, epochs)


@pytest.mark.parametrize(
    ("ratio", "steps", "warmup"),
    [
        ("0", 100, 0),
        ("0.03", 100, 3),
        ("0.03", 10, 1),
        ("0.03", 101, 4),
        ("0.5", 3, 2),
        ("0.03", 1, 0),
    ],
)
def test_the_warm_up_is_rounded_up_and_leaves_a_step(
    probed: Probed, ratio: str, steps: int, warmup: int
) -> None:
    flags = [f"training.warmup_ratio={ratio}", f"training.steps={steps}"]
    plan = with_rows(probed, 40, 400, *flags)
    assert plan.schedule.warmup_steps == warmup
    assert plan.schedule.warmup_ratio == float(ratio)
    assert decision(plan, "training.warmup_steps")[0] == str(warmup)


def test_tokens_a_step_are_the_mean_row_times_the_rows(probed: Probed) -> None:
    assert with_rows(probed, 40, 1000).schedule.tokens_per_step == 100
    assert with_rows(probed, 3, 100).schedule.tokens_per_step == 100, "fewer rows than a batch"


def test_what_was_left_out_is_said(probed: Probed) -> None:
    by_default = with_rows(probed, 40, 400)
    assert decision(by_default, "training.epochs") == ("3", "default")
    assert decision(by_default, "training.steps") == ("30", "3 epochs of 10 steps")
    by_steps = with_rows(probed, 40, 400, "training.steps=7")
    assert decision(by_steps, "training.steps") == ("7", "--set")
    assert decision(by_steps, "training.epochs") == ("0.7", "an epoch is 10 steps")
    assert decision(by_steps, "training.rows_per_step")[0] == "4"


def test_the_rest_is_taken_as_it_is_written(probed: Probed) -> None:
    training = {
        "steps": 9,
        "batch_size": 3,
        "gradient_accumulation_steps": 2,
        "learning_rate": 3e-4,
        "scheduler": "linear",
        "warmup_ratio": 0.5,
        "max_gradient_norm": 0.5,
        "gradient_checkpointing": True,
        "save_steps": 5,
        "keep_checkpoints": 4,
        "optimizer": {"beta2": 0.95},
    }
    plan = resolve_plan(*probed(training=training))
    assert plan.schedule == SchedulePlan(
        steps=9,
        epochs=9 / 4,
        steps_per_epoch=4,
        batching="random",
        sampling_temperature=None,
        units_per_epoch=24,
        batch_size=3,
        gradient_accumulation_steps=2,
        processes=1,
        tokens_per_step=plan.schedule.tokens_per_step,
        learning_rate=3e-4,
        scheduler="linear",
        warmup_ratio=0.5,
        warmup_steps=5,
        max_gradient_norm=0.5,
        gradient_checkpointing=True,
        save_steps=5,
        keep_checkpoints=4,
    )
    assert plan.optimizer.beta2 == 0.95
    assert decision(plan, "training.optimizer.beta2")[1].startswith("recipe.yaml:")
    assert decision(plan, "training.optimizer.name") == ("adamw", "default")


def test_the_optimizer_that_is_left_out_is_adamw(probed: Probed) -> None:
    plan = resolve_plan(*probed())
    assert decision(plan, "training.optimizer.name") == ("adamw", "default")
    assert decision(plan, "training.optimizer.lora_plus_ratio") == ("none", "default")
    noted = {each.field for each in plan.decisions}
    assert not noted & {"training.learning_rate_of_b", "training.optimizer.paging"}


def test_lora_plus_is_said_as_the_rate_that_it_comes_to(probed: Probed) -> None:
    flags = ["training.optimizer.lora_plus_ratio=16", "training.learning_rate=1e-4"]
    plan = resolve_plan(*probed("llama", *flags))
    assert decision(plan, "training.learning_rate_of_b") == (
        "0.0016",
        "lora_plus_ratio × learning_rate",
    )
    assert plan.optimizer.summary(1e-4) == "adamw, learning rate 0.0001, of B 0.0016"


@pytest.mark.parametrize("name", ["paged_adamw", "paged_adamw_8bit"])
def test_on_a_cpu_the_plan_says_that_nothing_is_paged(probed: Probed, name: str) -> None:
    loaded, facts = probed("llama", f"training.optimizer={name}")
    on_cpu = replace(facts, machine=replace(facts.machine, device="cpu"))
    assert decision(resolve_plan(loaded, on_cpu), "training.optimizer.paging") == (
        "none",
        "on a CPU the state is plain memory",
    )
    on_gpu = replace(facts, machine=replace(facts.machine, device="cuda", fast_bfloat16=True))
    fields = {each.field for each in resolve_plan(loaded, on_gpu).decisions}
    assert "training.optimizer.paging" not in fields
