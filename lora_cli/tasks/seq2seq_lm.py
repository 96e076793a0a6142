"""A text written for a text by an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from lora_cli.formats.examples import Example, SourceTarget
from lora_cli.tasks.batches import TextBatch, padded, text_batch
from lora_cli.tasks.measures import text_figures
from lora_cli.tasks.task import IGNORED, Measured, Scored, Task, TaskRow, Totals

if TYPE_CHECKING:
    import torch


class Seq2SeqLm(Task):
    """The target's next token, from the whole source and the target's tokens before it."""

    name: Literal["seq2seq_lm"]
    """A target text for each source text."""

    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    peft_task: ClassVar[str] = "SEQ_2_SEQ_LM"
    kinds: ClassVar[tuple[type[Example], ...]] = (SourceTarget,)
    generates: ClassVar[bool] = True

    def collate(
        self, rows: Sequence[TaskRow], *, padding_id: int, device: torch.device
    ) -> TextBatch:
        """Return rows as one batch; labels are (rows, target tokens)."""
        labels = padded([row.labels for row in rows], IGNORED)
        return text_batch(rows, labels, padding_id=padding_id, device=device)

    def score(self, model: torch.nn.Module, batch: TextBatch) -> Scored:
        """Return the summed cross-entropy over the target's tokens.

        The model makes the decoder's inputs of the labels: each architecture in its own way.
        """
        from torch.nn import functional

        logits = model(**batch.inputs(), labels=batch.labels).logits.float()
        logits = logits[:, -batch.labels.shape[1] :]  # an adapter may put vectors in front
        loss = functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        learnt = batch.labels != IGNORED
        right = (logits.detach().argmax(-1) == batch.labels)[learnt].sum()
        return Scored(loss, int(learnt.sum()), right)

    def measured(self, totals: Totals) -> Measured:
        """Return perplexity and token accuracy; the texts themselves are measured as answers."""
        return text_figures(totals)
