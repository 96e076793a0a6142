"""What every task is: its model, what it learns from, how a batch is scored and rows are measured.

A task's file holds its specification and what follows from it; heavy imports stand inside the
methods. Losses are sums; the caller divides by the count over the whole accumulated batch, so that
splitting a batch changes nothing (the mean of means is not the mean).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from lora_cli.formats.examples import Example
from lora_cli.section import Section

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

CHUNK = 256
"""Tokens whose logits are there together: 134 MB in float32 for a vocabulary of 131,072."""
IGNORED = -100
"""Label of a token that is not predicted."""


class TaskRow(Protocol):
    """A tokenized row; what its labels are is the task's."""

    @property
    def input_ids(self) -> NDArray[np.int32]:
        """Return the tokens that the model reads."""

    @property
    def labels(self) -> NDArray[Any]:
        """Return what is learnt from the row."""

    @property
    def prompt_tokens(self) -> int:
        """Return the tokens before the first that is learnt; of a pair of texts, of the first."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a forward pass says of a batch: of `count` labels, `correct` are right."""

    loss_sum: torch.Tensor
    count: int
    correct: torch.Tensor
    predictions: Sequence[Any] | None = None
    """One a row, for a task that is measured by more than a share of right labels."""
    references: Sequence[Any] | None = None
    """What was expected, in the same form."""


@dataclass(frozen=True, slots=True)
class Totals:
    """All that was found on the rows of an evaluation: means over labels, and each row's own."""

    loss: float
    accuracy: float
    predictions: Sequence[Any] = ()
    references: Sequence[Any] = ()


PerClass = Mapping[str, Mapping[str, float]]
"""Precision, recall, F1 and support of each label."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An evaluation's figures by name, and those of each label where there are labels."""

    figures: Mapping[str, float]
    per_class: PerClass = field(default_factory=dict)


class Task(Section):
    """What all tasks share; a subclass adds fields and says how it learns and is measured."""

    main_field = "name"

    name: str
    """What is learnt."""

    auto_class: ClassVar[str]
    """transformers' class for it, which knows each architecture's own."""
    peft_task: ClassVar[str]
    """peft's name for it."""
    kinds: ClassVar[tuple[type[Example], ...]]
    """What rows have to be."""
    generates: ClassVar[bool] = False
    """Whether the model writes text, which has an end and can be compared with an answer."""
    has_new_head: ClassVar[bool] = False
    """Whether what comes after the model's body is new, and trained as a whole."""
    packages: ClassVar[Mapping[str, str]] = {}
    """What measuring needs beside loracli's own: import names, and what pip calls them."""

    @property
    def needs_labels(self) -> bool:
        """Return whether the labels are still to be found in the rows."""
        return False

    def config_changes(self) -> dict[str, Any]:
        """Return what the task changes in the base's config."""
        return {}

    def collate(self, rows: Sequence[TaskRow], *, padding_id: int, device: torch.device) -> Any:
        """Return rows as one batch, padded on the right."""
        raise NotImplementedError

    def score(self, model: torch.nn.Module, batch: Any) -> Scored:
        """Return the summed loss of a batch, in float32, and what the model predicts."""
        raise NotImplementedError

    def mean_loss(self, model: Any, batch: Any) -> torch.Tensor:
        """Return the mean loss over a batch's labels."""
        scored = self.score(model, batch)
        return scored.loss_sum / scored.count

    def measured(self, totals: Totals) -> Measured:
        """Return what an evaluation tells beside its loss."""
        raise NotImplementedError
