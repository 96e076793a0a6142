"""One label, several labels or a number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lora_cli.formats.examples import Example, LabelledText
from lora_cli.tasks.batches import TextBatch, stacked, text_batch
from lora_cli.tasks.labels import LabelledSpec, label_config
from lora_cli.tasks.measures import class_figures, label_set_figures, number_figures
from lora_cli.tasks.task import Measured, Scored, Task, TaskRow, Totals

if TYPE_CHECKING:
    import torch

Problem = Literal["single_label", "multi_label", "regression"]
PROBLEM_TYPES: dict[Problem, str] = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
"""transformers' names."""


class SequenceClassification(LabelledSpec, Task):
    """A new head on the model's last or first token, trained as a whole beside the adapter."""

    name: Literal["sequence_classification"]
    """A label for each text."""
    problem: Problem = "single_label"
    """`single_label`: one of the labels; `multi_label`: any number of them; `regression`: a number,
    and no labels."""

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    peft_task: ClassVar[str] = "SEQ_CLS"
    kinds: ClassVar[tuple[type[Example], ...]] = (LabelledText,)
    has_new_head: ClassVar[bool] = True
    packages: ClassVar[Mapping[str, str]] = {"sklearn": "scikit-learn", "scipy": "scipy"}

    @property
    def needs_labels(self) -> bool:
        """Return whether the labels are still to be found in the rows."""
        return self.labels is None and self.problem != "regression"

    def config_changes(self) -> dict[str, Any]:
        """Return the labels as the model's config names them."""
        names = ("value",) if self.problem == "regression" else self.label_names()
        return {**label_config(names), "problem_type": PROBLEM_TYPES[self.problem]}

    def collate(
        self, rows: Sequence[TaskRow], *, padding_id: int, device: torch.device
    ) -> TextBatch:
        """Return rows as one batch; labels are (rows,), for several labels (rows, labels)."""
        labels = stacked(rows)
        if self.problem != "multi_label":
            labels = labels[:, 0]
        if self.problem == "single_label":
            labels = labels.long()
        return text_batch(rows, labels, padding_id=padding_id, device=device)

    def score(self, model: torch.nn.Module, batch: TextBatch) -> Scored:
        """Return the summed loss: cross-entropy, a binary one for each label, or squared error."""
        import torch
        from torch.nn import functional

        logits = model(**batch.inputs()).logits.float()
        labels = batch.labels
        if self.problem == "single_label":
            loss = functional.cross_entropy(logits, labels, reduction="sum")
            found = logits.detach().argmax(-1)
        elif self.problem == "multi_label":
            loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            found = (logits.detach() > 0).long()
        else:
            loss = functional.mse_loss(logits[:, 0], labels, reduction="sum")
            found = logits.detach()[:, 0]
        right = (found == labels).sum() if self.problem != "regression" else torch.zeros(())
        if torch.is_grad_enabled():
            return Scored(loss, labels.numel(), right)
        return Scored(loss, labels.numel(), right, found.tolist(), labels.tolist())

    def measured(self, totals: Totals) -> Measured:
        """Return accuracy, F1 and Matthews' correlation, or what tells how near numbers are."""
        if self.problem == "regression":
            return Measured(number_figures(totals.predictions, totals.references))
        if self.problem == "multi_label":
            return label_set_figures(totals.predictions, totals.references, self.label_names())
        return class_figures(totals.predictions, totals.references, self.label_names())
