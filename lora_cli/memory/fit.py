"""What makes a recipe fit: the largest micro batch, the longest rows, the mildest set of levers.

An answer fits by the estimate and the next step up does not: both are estimated, never told from a
line through other points. That a larger batch needs more is taken for granted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from lora_cli.memory.estimate import Estimate, estimate
from lora_cli.memory.levers import Lever, estimate_with, levers_of
from lora_cli.memory.subject import Subject
from lora_cli.words import counted

LENGTH_STEP = 64
LONGEST = 1 << 20
LARGEST_BATCH = 4096
MOST_ON_A_LINE = 5
"""After so many guesses on a line, the rest is halved: a need that bends has misled them."""


@dataclass(frozen=True)
class Answer:
    """Settings that fit, and the estimate of the next step up: None if there is none."""

    settings: tuple[str, ...]
    value: int
    estimate: Estimate
    beyond: Estimate | None
    beyond_settings: tuple[str, ...]
    """What the next step up would be."""
    note: str = ""
    """What else changes."""


@dataclass(frozen=True)
class Fit:
    """How a recipe fits into a capacity."""

    capacity: int
    as_it_is: Estimate
    batch: Answer | None
    """The largest micro batch; None where not even one row fits."""
    length: Answer | None
    """The longest rows, all of this length; None where not even the shortest fit."""
    levers: tuple[Lever, ...] | None
    """The mildest set of changes that fits; none needed: empty; None: no set does."""
    with_levers: Estimate | None

    @property
    def settings(self) -> tuple[str, ...]:
        """Return what the levers set."""
        return tuple(setting for lever in self.levers or () for setting in lever.settings)


@dataclass(frozen=True)
class _Search:
    """Estimates of one subject with other settings, each made once."""

    subject: Subject
    capacity: int
    known: dict[tuple[str, ...], Estimate | None]

    def estimate(self, settings: tuple[str, ...]) -> Estimate | None:
        """Return the estimate with `settings`; None where no plan could have them."""
        if settings not in self.known:
            self.known[settings] = estimate_with(self.subject, settings, self.capacity)
        return self.known[settings]

    def largest(self, most: int, settings: Callable[[int], tuple[str, ...]]) -> Answer | None:
        """Return the largest of 1 … `most` that fits.

        Each guess is where a line through the two nearest needs meets the capacity.
        """
        fits, beyond = 0, most + 1
        known: dict[int, Estimate] = {}
        guess = 1
        while beyond - fits > 1:
            found = self.estimate(settings(guess))
            if found is None:
                beyond, guess = guess, (fits + guess) // 2
                continue
            known[guess] = found
            if found.verdict == "fits":
                fits = guess
            else:
                beyond = guess
            guess = _between(fits, beyond, known, self.capacity)
        if not fits:
            return None
        above = settings(beyond) if beyond in known else ()
        return Answer(settings(fits), fits, known[fits], known.get(beyond), above)


def _between(fits: int, beyond: int, known: dict[int, Estimate], capacity: int) -> int:
    """Return a guess from `fits` + 1 to `beyond` - 1, on the line through the last two needs."""
    if len(known) < 2:
        return min(2, beyond - 1)
    if len(known) > MOST_ON_A_LINE:
        return (fits + beyond) // 2
    nearest = sorted(known, key=lambda value: abs(known[value].needed.high - capacity))[:2]
    (low, need), (high, more) = sorted((value, known[value].needed.high) for value in nearest)
    slope = (more - need) / (high - low)
    line = low + (capacity - need) / slope if slope > 0 else math.inf
    return int(max(fits + 1, min(line, beyond - 1, 64 * max(fits, 1))))


def fit(subject: Subject, capacity: int) -> Fit:
    """Return how a subject fits into `capacity` bytes.

    Raises:
        PlanError: the recipe cannot be planned.
    """
    search = _Search(subject, capacity, {(): estimate(subject, capacity)})
    as_it_is = search.estimate(())
    assert as_it_is is not None, "it was planned"
    levers, with_levers = _mildest(search)
    return Fit(capacity, as_it_is, _batch(search), _length(search), levers, with_levers)


def _batch(search: _Search) -> Answer | None:
    """Return the largest micro batch: one that a step's rows can be divided into, or a whole step.

    Only where more than all rows of a step fit at once, the step grows.
    """
    schedule = search.subject.plan.schedule
    rows = schedule.batch_size * schedule.gradient_accumulation_steps

    there_are = LARGEST_BATCH if search.subject.full_length else schedule.units_per_epoch
    upwards = range(1, min(there_are, LARGEST_BATCH) + 1)
    sizes = [size for size in upwards if size > rows or rows % size == 0]

    def settings(number: int) -> tuple[str, ...]:
        size = sizes[number - 1]
        accumulation = max(1, rows // size)
        batch = f"training.batch_size={size}"
        return batch, f"training.gradient_accumulation_steps={accumulation}"

    found = search.largest(len(sizes), settings)
    if found is None:
        return None
    size = sizes[found.value - 1]
    held = "pack" if schedule.batching == "packed" else "row"
    note = f"a step of {counted(size, held)}, not of {rows}" if size > rows else ""
    return replace(found, value=size, note=note)


def _length(search: _Search) -> Answer | None:
    """Return the longest rows, in steps: whatever the data, all are taken to be so long."""
    full = replace(search, subject=search.subject.with_full_rows(), known={})
    context = search.subject.plan.model.context_length or LONGEST
    found = full.largest(
        min(context, LONGEST) // LENGTH_STEP,
        lambda steps: (f"training.max_length={steps * LENGTH_STEP}",),
    )
    return replace(found, value=found.value * LENGTH_STEP) if found else None


def _mildest(search: _Search) -> tuple[tuple[Lever, ...] | None, Estimate | None]:
    """Return levers that fit together, of which none can be left out, and the estimate with them.

    They are taken in the order of what they cost until it fits; then each that is not needed is
    put back, the costliest first.
    """
    taken = list[Lever]()
    found = search.estimate(())
    for lever in levers_of(search.subject):
        if found is not None and found.verdict == "fits":
            break
        tried = search.estimate(_settings([*taken, lever]))
        if tried is not None:
            taken.append(lever)
            found = tried
    if found is None or found.verdict != "fits":
        return None, None
    for lever in reversed(taken[:-1]):
        without = [each for each in taken if each is not lever]
        tried = search.estimate(_settings(without))
        if tried is not None and tried.verdict == "fits":
            taken, found = without, tried
    return tuple(taken), found


def _settings(levers: list[Lever]) -> tuple[str, ...]:
    return tuple(setting for lever in levers for setting in lever.settings)
