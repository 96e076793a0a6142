"""What a run tells while it goes on; the engine says it, the console and the files write it down.

This module does not know who listens. Times are seconds, memory is bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run began: loading, training, answering, writing."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know, though the run goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class RowsRead:
    """So many rows of a source are read and tokenized; `total` is an estimate, None unknown."""

    done: int
    total: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Training is about to begin at `first_step` (1 unless resumed)."""

    total_steps: int
    first_step: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run goes on from the checkpoint of `step`, in the folder `path`."""

    step: int
    path: str


@dataclass(frozen=True, slots=True)
class StepDone:
    """One optimizer step; `loss` is the mean over the step's supervised tokens."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    supervised_tokens: int
    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The loss on the rows kept apart, over their labels, and what the task measures there."""

    step: int
    loss: float
    figures: Mapping[str, float]
    best: bool
    seconds: float
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Precision, recall, F1 and support of each label, where there are labels."""


@dataclass(frozen=True, slots=True)
class RanksAllocated:
    """The method shared ranks out among the modules, after step `step`."""

    step: int
    total: int
    by_module: dict[str, int]


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint from which the run can go on is on disk."""

    step: int
    path: str


@dataclass(frozen=True, slots=True)
class StoppedEarly:
    """The evaluation loss did not improve for `patience` evaluations."""

    step: int
    patience: int


@dataclass(frozen=True, slots=True)
class StartsDone:
    """The first values of some of the adapter's modules are computed."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class AnswersDone:
    """Some of the generated answers are there."""

    who: str
    done: int
    total: int


Event = (
    Stage
    | Notice
    | RowsRead
    | Resumed
    | RunStarted
    | StepDone
    | Evaluated
    | RanksAllocated
    | CheckpointSaved
    | StoppedEarly
    | StartsDone
    | AnswersDone
)
Report = Callable[[Event], None]


def unheard(_event: Event) -> None:
    """Listen to nothing."""
