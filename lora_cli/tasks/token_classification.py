"""A label for each word, learnt at the word's first token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lora_cli.formats.examples import Example, LabelledTokens
from lora_cli.tasks.batches import TextBatch, padded, text_batch
from lora_cli.tasks.labels import LabelledSpec, label_config
from lora_cli.tasks.measures import tag_figures
from lora_cli.tasks.task import IGNORED, Measured, Scored, Task, TaskRow, Totals

if TYPE_CHECKING:
    import torch


class TokenClassification(LabelledSpec, Task):
    """A new head on every token, trained as a whole beside the adapter."""

    name: Literal["token_classification"]
    """A label for each word."""

    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    peft_task: ClassVar[str] = "TOKEN_CLS"
    kinds: ClassVar[tuple[type[Example], ...]] = (LabelledTokens,)
    has_new_head: ClassVar[bool] = True
    packages: ClassVar[Mapping[str, str]] = {"sklearn": "scikit-learn", "seqeval": "seqeval"}

    @property
    def needs_labels(self) -> bool:
        """Return whether the labels are still to be found in the rows."""
        return self.labels is None

    def config_changes(self) -> dict[str, Any]:
        """Return the labels as the model's config names them."""
        return label_config(self.label_names())

    def collate(
        self, rows: Sequence[TaskRow], *, padding_id: int, device: torch.device
    ) -> TextBatch:
        """Return rows as one batch; labels are (rows, tokens), IGNORED but at first tokens."""
        labels = padded([row.labels for row in rows], IGNORED)
        return text_batch(rows, labels, padding_id=padding_id, device=device)

    def score(self, model: torch.nn.Module, batch: TextBatch) -> Scored:
        """Return the summed cross-entropy over labelled tokens."""
        import torch
        from torch.nn import functional

        logits = model(**batch.inputs()).logits.float()
        labelled = batch.labels != IGNORED
        loss = functional.cross_entropy(logits[labelled], batch.labels[labelled], reduction="sum")
        found = logits.detach().argmax(-1)
        right, count = (found == batch.labels)[labelled].sum(), int(labelled.sum())
        if torch.is_grad_enabled():
            return Scored(loss, count, right)
        rows = list(zip(found, batch.labels, labelled, strict=True))
        predictions = [tags[where].tolist() for tags, _, where in rows]
        references = [tags[where].tolist() for _, tags, where in rows]
        return Scored(loss, count, right, predictions, references)

    def measured(self, totals: Totals) -> Measured:
        """Return token accuracy, and F1 of entities, or of tags where they mark no entities."""
        found = tag_figures(totals.predictions, totals.references, self.label_names())
        return Measured({"token_accuracy": totals.accuracy, **found.figures}, found.per_class)
