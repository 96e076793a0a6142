"""What fits: answers that fit, whose next step up does not."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lora_cli.memory.estimate import estimate
from lora_cli.memory.fit import LENGTH_STEP, _Search, fit
from lora_cli.memory.interval import Interval
from lora_cli.memory.subject import Subject
from lora_cli.plan.run_plan import RunPlan

Bare = Callable[..., Subject]
GIB = 1 << 30


@pytest.mark.parametrize("capacity", [2, 3.1, 4, 6.5, 12, 24, 80])
def test_the_answer_fits_and_the_next_step_up_does_not(
    bare: Bare, simulated: list[RunPlan], capacity: float
) -> None:
    subject = bare("training.max_length=512")
    room = int(capacity * GIB)
    found = fit(subject, room)
    for answer, step in ((found.batch, 1), (found.length, LENGTH_STEP)):
        if answer is None:
            continue
        assert answer.estimate.verdict == "fits"
        assert answer.estimate.needed.high <= room
        if answer.beyond is not None:
            assert answer.beyond.verdict != "fits"
            assert answer.beyond.batch.size > answer.estimate.batch.size
        key, _, value = answer.settings[0].partition("=")
        assert int(value) == answer.value
        assert step == 1 or answer.value % step == 0
        assert key in ("training.batch_size", "training.max_length")


def test_random_recipes_are_answered_as_the_settings_estimate_by_themselves(
    bare: Bare, simulated: list[RunPlan]
) -> None:
    chance = random.Random(0)
    for _ in range(10):
        settings = [
            f"training.batch_size={chance.randint(1, 32)}",
            f"training.max_length={chance.choice([128, 512, 1024, 2048])}",
            f"adapter.rank={chance.choice([4, 16, 64])}",
            f"quantization={chance.choice(['none', 'nf4', 'int8'])}",
            f"training.gradient_checkpointing={chance.choice(['true', 'false'])}",
            f"training.gradient_accumulation_steps={chance.choice([1, 4])}",
        ]
        subject, room = bare(*settings), int(chance.uniform(2.5, 20) * GIB)
        found = fit(subject, room)
        assert found.batch is not None
        alone = estimate(bare(*settings, *found.batch.settings), room)
        assert alone.verdict == "fits"
        assert alone.needed == found.batch.estimate.needed
        if found.batch.beyond is not None:
            beyond = bare(*settings, *found.batch.beyond_settings)
            assert estimate(beyond, room).verdict != "fits"


@pytest.mark.parametrize("capacity", [2.2, 2.6, 3, 4, 6, 12, 80])
def test_a_step_stays_as_large_as_it_was_or_says_that_it_grows(
    bare: Bare, simulated: list[RunPlan], capacity: float
) -> None:
    subject = bare(
        "training.max_length=512",
        "training.batch_size=3",
        "training.gradient_accumulation_steps=4",
    )
    found = fit(subject, int(capacity * GIB)).batch
    assert found is not None
    schedule = subject.with_settings(found.settings).plan.schedule
    rows = schedule.batch_size * schedule.gradient_accumulation_steps
    if found.value <= 12:
        assert (rows, found.note) == (12, "")
    else:
        assert found.note == f"a step of {rows} rows, not of 12"


@pytest.mark.parametrize("allowed", range(1, 18))
def test_what_no_plan_could_have_is_beyond(allowed: int) -> None:
    """As a length beyond the context is: refused, and asked for once."""

    def needs(value: int, capacity: int) -> Any:
        verdict = "fits" if value <= capacity else "does not fit"
        return SimpleNamespace(verdict=verdict, needed=Interval(value, value))

    for fitting in range(18):
        known = {(str(n),): needs(n, fitting) if n <= allowed else None for n in range(1, 18)}
        found = _Search(cast("Any", None), fitting, known).largest(17, lambda value: (str(value),))
        assert (found.value if found else 0) == min(allowed, fitting)


def test_few_guesses_are_enough(bare: Bare, simulated: list[RunPlan]) -> None:
    fit(bare("training.max_length=512", "training.batch_size=1"), 24 * GIB)
    # the recipe as it is; one row, two, the answer and its neighbours, for rows and for lengths
    assert len(simulated) <= 14


def test_nothing_is_changed_where_nothing_needs_to_be(bare: Bare, simulated: list[RunPlan]) -> None:
    found = fit(bare("training.batch_size=1"), 24 * GIB)
    assert found.levers == ()
    assert found.settings == ()
    assert found.with_levers == found.as_it_is


def test_the_mildest_set_fits_and_none_of_it_can_be_left_out(
    bare: Bare, simulated: list[RunPlan]
) -> None:
    subject = bare("training.batch_size=8", "training.max_length=2048")
    whole = estimate(subject).needed.high
    for room in (int(whole * share) for share in (0.3, 0.5, 0.9)):
        found = fit(subject, room)
        assert found.levers
        assert estimate(subject.with_settings(found.settings), room).verdict == "fits"
        for left_out in found.levers:
            rest = [each for each in found.levers if each is not left_out]
            settings = [setting for lever in rest for setting in lever.settings]
            assert estimate(subject.with_settings(settings), room).verdict != "fits"


def test_milder_changes_are_taken_before_others(bare: Bare, simulated: list[RunPlan]) -> None:
    subject = bare("training.batch_size=8", "training.max_length=2048")
    whole = estimate(subject).needed.high
    found = fit(subject, whole // 2)
    assert [each.name for each in found.levers or ()] == ["one row at a time"]


def test_a_capacity_below_the_weights_fits_nothing(bare: Bare, simulated: list[RunPlan]) -> None:
    found = fit(bare(), GIB)
    assert found.batch is None
    assert found.length is None
    assert found.levers is None
    assert found.as_it_is.verdict == "does not fit"


def test_a_batch_is_never_larger_than_the_rows_there_are(
    subject: Callable[..., Subject], simulated: list[RunPlan]
) -> None:
    found = fit(subject(), 80 * GIB)
    assert found.batch is not None
    assert found.batch.value == 24
    assert found.batch.beyond is None


def test_rows_are_never_longer_than_the_context(bare: Bare, simulated: list[RunPlan]) -> None:
    found = fit(bare("training.batch_size=1"), 640 * GIB)
    assert found.length is not None
    assert found.length.value == 4096
    assert found.length.beyond is None
