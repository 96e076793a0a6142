"""Losses of the tasks are sums of what transformers averages; micro batches add up to the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from lora_cli.tasks import TaskSpec
from lora_cli.tasks.seq2seq_lm import Seq2SeqLm
from lora_cli.tasks.sequence_classification import SequenceClassification
from lora_cli.tasks.token_classification import TokenClassification

CPU, VOCABULARY, LABELS = torch.device("cpu"), 30, ("a", "b", "c")
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@dataclass(frozen=True)
class Row:
    input_ids: Any
    labels: Any
    prompt_tokens: int


def texts(problem: str) -> SequenceClassification:
    labels = None if problem == "regression" else LABELS
    return SequenceClassification(name="sequence_classification", labels=labels, problem=problem)


TASKS: dict[str, TaskSpec] = {
    "single_label": texts("single_label"),
    "multi_label": texts("multi_label"),
    "regression": texts("regression"),
    "words": TokenClassification(name="token_classification", labels=LABELS),
    "targets": Seq2SeqLm(name="seq2seq_lm"),
}


def rows_of(name: str) -> list[Row]:
    random = np.random.default_rng(3)
    made = []
    for length in (9, 4, 7, 6):
        ids = random.integers(2, VOCABULARY, length).astype(np.int32)
        labels: dict[str, Any] = {
            "single_label": random.integers(0, 3, 1).astype(np.int32),
            "multi_label": random.integers(0, 2, 3).astype(np.float32),
            "regression": random.random(1, dtype=np.float32),
            "words": np.where(np.arange(length) % 3 == 1, -100, ids % 3).astype(np.int32),
            "targets": random.integers(2, VOCABULARY, length // 2).astype(np.int32),
        }
        made.append(Row(ids, labels[name], length - length % 4))
    return made


def model_of(task: TaskSpec) -> Any:
    torch.manual_seed(0)
    settings: Any = transformers.BertConfig(
        vocab_size=VOCABULARY, intermediate_size=16, **SMALL, **task.config_changes()
    )
    if task.generates:
        settings = transformers.T5Config(
            vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
            decoder_start_token_id=0,
        )  # fmt: skip
    return getattr(transformers, task.auto_class).from_config(settings).eval()


def batch_of(task: TaskSpec, rows: list[Row]) -> Any:
    return task.collate(rows, padding_id=0, device=CPU)


@pytest.mark.parametrize("name", TASKS)
def test_the_mean_is_the_loss_of_transformers(name: str) -> None:
    task = TASKS[name]
    model, batch = model_of(task), batch_of(task, rows_of(name))
    theirs = model(**batch.inputs(), labels=batch.labels).loss
    torch.testing.assert_close(task.mean_loss(model, batch), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TASKS)
def test_parts_of_a_batch_add_up(name: str) -> None:
    task, rows = TASKS[name], rows_of(name)
    model = model_of(task)
    with torch.no_grad():
        whole = task.score(model, batch_of(task, rows))
        parts = [task.score(model, batch_of(task, part)) for part in (rows[:1], rows[1:])]
    torch.testing.assert_close(sum(part.loss_sum for part in parts), whole.loss_sum)
    assert sum(part.count for part in parts) == whole.count
    assert sum(int(part.correct) for part in parts) == int(whole.correct)
    if whole.predictions is not None:
        joined = [each for part in parts for each in part.predictions or ()]
        for one, other in zip(joined, whole.predictions, strict=True):
            assert one == pytest.approx(other, abs=1e-6)


def test_single_predictions_are_for_evaluations() -> None:
    task = TASKS["words"]
    scored = task.score(model_of(task), batch_of(task, rows_of("words")))
    assert scored.predictions is None
    with torch.no_grad():
        scored = task.score(model_of(task), batch_of(task, rows_of("words")))
    assert [len(row) for row in scored.references or ()] == [6, 3, 5, 4]


def test_second_texts_are_marked_where_there_are_any() -> None:
    task, rows = TASKS["single_label"], rows_of("single_label")
    types = batch_of(task, rows).token_type_ids
    assert types is not None
    assert types.sum(dim=1).tolist() == [1, 0, 3, 2]
    alone = [Row(row.input_ids, row.labels, row.input_ids.size) for row in rows]
    assert batch_of(task, alone).token_type_ids is None
