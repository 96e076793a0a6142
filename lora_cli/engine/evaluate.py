"""Loss and token accuracy on the rows kept apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lora_cli.data.load import Row
from lora_cli.engine.runtime import Runtime
from lora_cli.tasks.causal_lm import collate, score


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Turn dropout and gradients off, and put the model back as it was."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def evaluate(
    model: Any, rows: Sequence[Row], runtime: Runtime, *, batch_size: int, padding_id: int
) -> tuple[float, float]:
    """Return (mean loss, share right) over all supervised tokens of `rows`, over all processes.

    Rows are taken longest first, so that a batch holds rows of like length; the means do not
    depend on how rows are batched.
    """
    import torch

    longest_first = sorted(rows, key=lambda row: -row.tokens.input_ids.size)
    mine = longest_first[runtime.rank :: runtime.processes]
    totals = torch.zeros(3, dtype=torch.float64, device=runtime.device)
    with evaluating(model):
        for start in range(0, len(mine), batch_size):
            tokens = [row.tokens for row in mine[start : start + batch_size]]
            pairs = [(row.input_ids, row.labels) for row in tokens]
            scored = score(model, collate(pairs, padding_id=padding_id, device=runtime.device))
            totals[0] += scored.loss_sum
            totals[1] += scored.correct
            totals[2] += scored.count
    loss_sum, correct, count = runtime.sum(totals).tolist()
    return loss_sum / count, correct / count
