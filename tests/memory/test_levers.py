"""What is offered to be changed: what a recipe can say, and saves something."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lora_cli.memory.estimate import estimate
from lora_cli.memory.levers import effects, estimate_with, levers_of
from lora_cli.memory.subject import Subject
from lora_cli.plan.run_plan import RunPlan

Bare = Callable[..., Subject]


def names(subject: Subject) -> list[str]:
    return [lever.name for lever in levers_of(subject)]


def test_the_mildest_come_first(bare: Bare) -> None:
    assert names(bare("model.attention=eager", device="T4")) == [
        "fused attention",
        "one row at a time",
        "checkpointing",
        "optimizer state in 8 bits",
        "base in 4 bits",
        "rank 8",
        "rows of 512 tokens",
    ]


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ("training.batch_size=1", "one row at a time"),
        ("training.gradient_checkpointing=true", "checkpointing"),
        ("training.optimizer=paged_adamw_8bit", "optimizer state in 8 bits"),
        ("adapter.dtype=bfloat16", "adapter in bfloat16"),
        ("adapter=dora", "adapter in bfloat16"),
        ("adapter=vera", "adapter in bfloat16"),
        ("model.dtype=float32", "adapter in bfloat16"),
        ("quantization=nf4", "base in 4 bits"),
        ("adapter.rank=1", "rank 0"),
        ("training.max_length=64", "rows of 32 tokens"),
    ],
)
def test_what_is_so_already_is_not_offered(bare: Bare, settings: str, gone: str) -> None:
    assert gone not in names(bare(settings))


def test_all_that_is_offered_is_a_setting_of_the_recipe(bare: Bare) -> None:
    subject = bare("model.dtype=float32", "model.attention=eager")
    for lever in levers_of(subject):
        assert estimate_with(subject, lever.settings, 1) is not None, lever.name


def test_accumulation_keeps_a_step_as_large_as_it_was(bare: Bare) -> None:
    subject = bare("training.batch_size=6", "training.gradient_accumulation_steps=2")
    lever = next(each for each in levers_of(subject) if each.name == "one row at a time")
    schedule = subject.with_settings(lever.settings).plan.schedule
    assert (schedule.batch_size, schedule.gradient_accumulation_steps) == (1, 12)


def test_smaller_evaluation_batches_are_offered_where_they_are_larger(
    subject: Callable[..., Subject],
) -> None:
    assert "smaller evaluation batches" in names(subject(evaluation=0.25))
    assert "smaller evaluation batches" not in names(subject())


def test_an_adapter_in_bfloat16_saves_where_the_base_is_in_it(
    bare: Bare, simulated: list[RunPlan]
) -> None:
    subject = bare()
    found = {each.lever.name: each for each in effects(subject, estimate(subject))}
    lever = found["adapter in bfloat16"].lever
    assert (lever.settings, lever.cost) == (("adapter.dtype=bfloat16",), "coarser steps")


def test_what_no_plan_can_have_is_not_offered(bare: Bare, simulated: list[RunPlan]) -> None:
    subject = bare("adapter={variant: prefix_tuning}")
    assert estimate_with(subject, ("training.gradient_checkpointing=true",), 1) is None
    found = effects(subject, estimate(subject))
    assert "checkpointing" not in {each.lever.name for each in found}


def test_each_is_estimated_again_and_the_largest_saving_comes_first(
    bare: Bare, simulated: list[RunPlan]
) -> None:
    subject = bare()
    before = estimate(subject)
    found = effects(subject, before)
    assert [each.lever.name for each in found][:1] == ["one row at a time"]
    savings = [each.saved for each in found]
    assert savings == sorted(savings, reverse=True)
    assert savings[-1] > 0
    for each in found:
        assert each.saved == before.needed.high - each.estimate.needed.high
        assert each.estimate.capacity == before.capacity
    assert len(simulated) >= 1 + len(found)
