"""Evaluation: true means over tokens, however the rows are batched; the model is left as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from lora_cli.data.load import Row
from lora_cli.engine.evaluate import evaluate
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.engine.runtime import Runtime
from lora_cli.step.evaluating import evaluating
from lora_cli.tasks.causal_lm import CausalLm
from tests.helpers.runs import plan_of, write_recipe

TinyModel = Callable[[str], Path]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Sequence[Row]:
    """Rows of unequal lengths, as a plan holds them."""
    plan = plan_of(write_recipe(tmp_path_factory.mktemp("rows"), tiny_model("llama")))
    return planned_dataset(plan, planned_tokenizer(plan)).train


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)


def figures(model: Any, rows: Sequence[Row], batch_size: int) -> tuple[float, float]:
    runtime = Runtime(device="cpu", processes=1)
    loss, measured = evaluate(CausalLm(), model, rows, runtime, batch_size=batch_size, padding_id=0)
    assert measured.figures["perplexity"] == pytest.approx(math.exp(loss))
    return loss, measured.figures["token_accuracy"]


def test_loss_and_accuracy_are_means_over_supervised_tokens(
    model: Any, rows: Sequence[Row]
) -> None:
    losses, right = [], []
    for row in rows:
        ids = torch.tensor(row.tokens.input_ids, dtype=torch.long)
        labels = torch.tensor(row.tokens.labels, dtype=torch.long)[1:]
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1]
        losses.append(functional.cross_entropy(logits, labels, reduction="none")[labels >= 0])
        right.append((logits.argmax(-1) == labels)[labels >= 0])
    loss, accuracy = figures(model, rows, 5)
    assert loss == pytest.approx(float(torch.cat(losses).mean()), abs=1e-6)
    assert accuracy == float(torch.cat(right).float().mean())


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_batching_does_not_matter(model: Any, rows: Sequence[Row], batch_size: int) -> None:
    loss, accuracy = figures(model, rows, 4)
    again = figures(model, rows, batch_size)
    assert again == (pytest.approx(loss, abs=1e-6), accuracy)
    assert figures(model, rows[::-1], 4) == (pytest.approx(loss, abs=1e-6), accuracy)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(model: Any, rows: Sequence[Row], training: bool) -> None:
    model.train(training)
    figures(model, rows[:2], 2)
    assert model.training is training
    model.eval()


def test_dropout_and_gradients_are_off_inside_even_after_an_error() -> None:
    dropout = torch.nn.Dropout(0.9)
    with pytest.raises(RuntimeError, match="in the midst"):
        look_and_fail(dropout)
    assert dropout.training
    assert torch.is_grad_enabled()


def look_and_fail(dropout: torch.nn.Dropout) -> None:
    with evaluating(dropout):
        assert dropout(torch.ones(100)).sum() == 100
        assert not torch.is_grad_enabled()
        raise RuntimeError("in the midst")
