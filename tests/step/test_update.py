"""One optimizer step: true means over unequal rows, clipping, and float16's loss scaling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lora_cli.adapters.lora import Lora
from lora_cli.engine.runtime import Runtime
from lora_cli.errors import GuardTrippedError
from lora_cli.model.adapter import AttachedAdapter
from lora_cli.step import update as module
from lora_cli.step.update import StepBatches, Trainables, update
from lora_cli.tasks.causal_lm import Batch, CausalLm, Scored, collate

CPU = torch.device("cpu")


class Bigrams(nn.Module):
    """Predicts each token from the one before, out of a table; `scale` blows up its gradients."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(5, 5))

    def forward(self, input_ids: torch.Tensor, **_: object) -> Any:
        return type("Output", (), {"logits": self.table[input_ids]})


def rows(*lengths: int) -> list[tuple[Any, Any]]:
    generator = np.random.default_rng(1)
    made = []
    for length in lengths:
        ids = generator.integers(0, 5, length).astype(np.int32)
        labels = np.where(np.arange(length) < 2, -100, ids).astype(np.int32)
        made.append((ids, labels))
    return made


def batches(*groups: list[tuple[Any, Any]], step: int = 1) -> StepBatches:
    supervised = sum(int((labels[1:] != -100).sum()) for group in groups for _, labels in group)
    made = [collate(group, padding_id=0, device=CPU) for group in groups]
    return StepBatches(step, made, supervised)


class Penalised(Lora):
    """Adds 0.1 to each entry of the table's gradient; notes the gradients after each step."""

    def penalty(self, model: Any) -> torch.Tensor:
        return 0.1 * model.table.sum()

    def after_step(self, model: Any, step: int) -> None:
        model.noted = [*getattr(model, "noted", []), (step, model.table.grad.clone())]


def trainables(
    *, scaler: torch.amp.GradScaler | None = None, rate: float = 0.5, spec: Lora | None = None
) -> Trainables:
    model = Bigrams()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    adapter = AttachedAdapter(model, spec or Lora())
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    return Trainables(CausalLm(), model, adapter, optimizer, scheduler, scaler)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(device="cpu", processes=1)


def expected(model: Bigrams, group: list[tuple[Any, Any]]) -> tuple[float, torch.Tensor]:
    """Return the mean loss over all supervised tokens, and its gradient, row by row."""
    losses = []
    for ids, labels in group:
        logits = model.table[torch.tensor(ids[:-1], dtype=torch.long)]
        targets = torch.tensor(labels[1:], dtype=torch.long)
        losses.append(functional.cross_entropy(logits, targets, reduction="none")[targets >= 0])
    mean = torch.cat(losses).mean()
    (gradient,) = torch.autograd.grad(mean, [model.table])
    return mean.item(), gradient


@pytest.mark.parametrize("split", [[8], [4, 4], [2, 2, 2, 2], [1, 6, 1]])
def test_any_split_of_the_rows_gives_the_same_step(runtime: Runtime, split: list[int]) -> None:
    group = rows(3, 9, 4, 4, 12, 3, 5, 20)
    trained = trainables()
    before = trained.model.table.detach().clone()
    loss, gradient = expected(trained.model, group)
    starts = [sum(split[:index]) for index in range(len(split))]
    parts = [group[start : start + size] for start, size in zip(starts, split, strict=True)]
    found, norm = update(trained, runtime, batches(*parts), max_gradient_norm=1e9)
    assert found == pytest.approx(loss, abs=1e-6)
    assert norm == pytest.approx(float(gradient.norm()), rel=1e-5)
    torch.testing.assert_close(trained.model.table.detach(), before - 0.5 * gradient)


def test_the_gradient_is_clipped_and_the_norm_is_that_before(runtime: Runtime) -> None:
    group = rows(4, 6)
    trained = trainables()
    before = trained.model.table.detach().clone()
    _, gradient = expected(trained.model, group)
    _, norm = update(trained, runtime, batches(group), max_gradient_norm=0.01)
    change = (before - trained.model.table.detach()) / 0.5
    assert norm == pytest.approx(float(gradient.norm()), rel=1e-5)
    assert float(change.norm()) == pytest.approx(0.01, rel=1e-3)


def test_a_step_moves_the_schedule_and_drops_its_gradients(runtime: Runtime) -> None:
    trained = trainables()
    update(trained, runtime, batches(rows(4)), max_gradient_norm=1.0)
    assert trained.scheduler.get_last_lr() == [0.25]
    assert trained.model.table.grad is None


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_bad_loss_moves_nothing(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    trained = trainables()
    before = trained.model.table.detach().clone()
    spoil(monkeypatch, factor)
    with pytest.raises(GuardTrippedError, match="the loss of step 1 is"):
        update(trained, runtime, batches(rows(4)), max_gradient_norm=1.0)
    assert trained.model.table.equal(before)
    assert trained.scheduler.get_last_lr() == [0.5]


def spoil(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:

    true_score = CausalLm.score

    def score(task: CausalLm, model: nn.Module, batch: Batch) -> Scored:
        scored = true_score(task, model, batch)
        return Scored(scored.loss_sum * factor, scored.count, scored.correct)

    monkeypatch.setattr(CausalLm, "score", score)


def test_a_scaled_step_is_the_plain_step(runtime: Runtime) -> None:
    """Scales are powers of two, so that scaling rounds nothing."""
    plain, scaled = trainables(), trainables(scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    outcomes = [
        update(trained, runtime, batches(rows(4, 7)), max_gradient_norm=1.0)
        for trained in (plain, scaled)
    ]
    assert outcomes[0] == outcomes[1]
    assert plain.model.table.equal(scaled.model.table)


def test_a_scaled_step_that_overflows_is_done_again_with_a_smaller_scale(
    runtime: Runtime,
) -> None:
    """As float16's do at the start of a run, where the scale is set high on purpose."""
    high = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    plain, scaled = trainables(), trainables(scaler=high)
    group = [rows(3, 3, 3, 3, 3, 3, 3, 3)] * 8  # sums of scaled gradients pass float32's end
    first = StepBatches(1, batches(*group).micro_batches, supervised=1)
    outcomes = [
        update(trained, runtime, first, max_gradient_norm=1.0) for trained in (plain, scaled)
    ]
    assert high.get_scale() < 2.0**127
    assert outcomes[1] == pytest.approx(outcomes[0], rel=1e-5)
    torch.testing.assert_close(scaled.model.table, plain.model.table)
    assert scaled.scheduler.get_last_lr() == [0.25], "one step, however often it was tried"


def test_gradients_that_no_scale_mends_trip_the_guard(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    trained = trainables(scaler=scaler)
    before = trained.model.table.detach().clone()
    monkeypatch.setattr(module, "clip_gradients", lambda *_: torch.tensor(math.inf))
    with pytest.raises(GuardTrippedError, match="the gradient norm of step 1 is inf"):
        update(trained, runtime, batches(rows(4)), max_gradient_norm=1.0)
    assert scaler.get_scale() == 1.0
    assert trained.model.table.equal(before)


def test_gradients_are_looked_for_at_the_first_step_only(runtime: Runtime) -> None:
    trained = trainables()
    trained.model.unused = nn.Parameter(torch.zeros(2))
    update(trained, runtime, batches(rows(4), step=2), max_gradient_norm=1.0)
    with pytest.raises(GuardTrippedError, match=r"1 of 2 adapter tensors get no .*`unused`"):
        update(trained, runtime, batches(rows(4), step=1), max_gradient_norm=1.0)


@pytest.mark.parametrize("split", [[4], [2, 2], [1, 1, 1, 1]])
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_a_penalty_counts_once_a_step_and_not_in_the_loss(
    runtime: Runtime, split: list[int], scale: float | None
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale) if scale else None
    trained, group = trainables(scaler=scaler, spec=Penalised()), rows(3, 9, 4, 12)
    before = trained.model.table.detach().clone()
    loss, gradient = expected(trained.model, group)
    starts = [sum(split[:index]) for index in range(len(split))]
    parts = [group[start : start + size] for start, size in zip(starts, split, strict=True)]
    found, norm = update(trained, runtime, batches(*parts), max_gradient_norm=1e9)
    assert found == pytest.approx(loss, abs=1e-6)
    assert norm == pytest.approx(float((gradient + 0.1).norm()), rel=1e-5)
    torch.testing.assert_close(trained.model.table.detach(), before - 0.5 * (gradient + 0.1))


def test_after_the_step_the_method_sees_its_gradients_once(runtime: Runtime) -> None:
    """Unscaled, and of the try that was taken: the first one overflows."""
    high = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    trained = trainables(scaler=high, spec=Penalised())
    group = [rows(3, 3, 3, 3, 3, 3, 3, 3)] * 8
    many = StepBatches(3, batches(*group).micro_batches, supervised=1)
    _, norm = update(trained, runtime, many, max_gradient_norm=1e9)
    assert high.get_scale() < 2.0**127
    ((step, gradient),) = trained.model.noted
    assert step == 3
    assert float(gradient.norm()) == pytest.approx(norm, rel=1e-5)
