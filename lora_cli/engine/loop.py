"""The training loop: step, evaluate, save, and stop when it is time to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_cli.data.load import Dataset
from lora_cli.engine.checkpoint import State, prune_checkpoints, save_checkpoint
from lora_cli.engine.earlier_run import drop_earlier_run
from lora_cli.engine.evaluate import evaluate
from lora_cli.engine.run_directory import CHECKPOINTS
from lora_cli.engine.runtime import Runtime
from lora_cli.engine.signals import interrupted, signals_noted
from lora_cli.errors import Where
from lora_cli.events import (
    CheckpointSaved,
    Evaluated,
    RanksAllocated,
    Report,
    StepDone,
    StoppedEarly,
)
from lora_cli.memory.batch_shape import BatchShape, shape_of
from lora_cli.plan.batches import order_of_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.step.guards import check_evaluation_loss
from lora_cli.step.update import StepBatches, Trainables, update
from lora_cli.tasks.causal_lm import collate_packed


@dataclass
class Training:
    """One run under way; `train` takes it from where `state` stands to the end."""

    plan: RunPlan
    dataset: Dataset
    trained: Trainables
    runtime: Runtime
    padding_id: int
    state: State
    report: Report
    memory_before: int = 0
    """The peak of memory before the model was loaded."""

    def __post_init__(self) -> None:
        self.order = order_of_plan(self.plan, self.dataset.train)
        self.checkpoints = Path(self.plan.run_dir) / CHECKPOINTS
        self.ranks = self._ranks_now() if self.state.progress.step else {}
        self.largest: BatchShape | None = None

    def train(self) -> None:
        """Train to the last step, or to an early stop.

        Raises:
            GuardTrippedError: a loss or gradient is not finite, or no gradient arrives.
            InterruptedRunError: SIGINT or SIGTERM came; a checkpoint has been written.
        """
        self.trained.model.train()
        self._note_ranks()
        with signals_noted() as received:
            while not self._is_over():
                self._step()
                self._note_ranks()
                if self._evaluation_is_due():
                    self._evaluate()
                if received or self._save_is_due():
                    self._save()
                if received:
                    raise interrupted(received[0], self.state.progress.step)
        if not self._at_last_step():
            progress = self.state.progress
            self.report(StoppedEarly(progress.step, progress.evaluations_since_best))

    def _at_last_step(self) -> bool:
        return self.state.progress.step >= self.plan.schedule.steps

    def _out_of_patience(self) -> bool:
        patience = self.plan.evaluation.patience if self.plan.evaluation else None
        return patience is not None and self.state.progress.evaluations_since_best >= patience

    def _is_over(self) -> bool:
        return self._at_last_step() or self._out_of_patience()

    def _evaluation_is_due(self) -> bool:
        if self.plan.evaluation is None:
            return False
        every = self.plan.evaluation.every_steps
        return self._at_last_step() or self.state.progress.step % every == 0

    def _save_is_due(self) -> bool:
        return self._is_over() or self.state.progress.step % self.plan.schedule.save_steps == 0

    def _step(self) -> None:
        started = time.perf_counter()
        progress = self.state.progress
        step = progress.step + 1
        rows = list(self.order.rows_of_step(step))
        supervised = int(self.dataset.train.supervised[rows].sum())
        tokens = int(self.dataset.train.lengths[rows].sum())
        learning_rate = self.trained.scheduler.get_last_lr()[0]
        loss, norm = update(
            self.trained,
            self.runtime,
            StepBatches(step, self._micro_batches(step), supervised, lambda: self._apart(rows)),
            max_gradient_norm=self.plan.schedule.max_gradient_norm,
        )
        seconds, memory_bytes = time.perf_counter() - started, self.runtime.memory_bytes()
        progress.add_step(loss=loss, tokens=tokens, seconds=seconds, memory_bytes=memory_bytes)
        self.report(
            StepDone(
                step=step,
                epoch=step / self.order.steps_per_epoch,
                loss=loss,
                learning_rate=learning_rate,
                gradient_norm=norm,
                tokens=tokens,
                supervised_tokens=supervised,
                seconds=seconds,
                memory_bytes=memory_bytes,
            )
        )

    def _ranks_now(self) -> dict[str, int]:
        return self.trained.adapter.spec.ranks(self.trained.adapter.model)

    def _note_ranks(self) -> None:
        """Tell each module's rank if that is not what was told before."""
        ranks = self._ranks_now()
        if ranks != self.ranks:
            self.ranks = ranks
            self.report(RanksAllocated(self.state.progress.step, sum(ranks.values()), ranks))

    def _micro_batches(self, step: int) -> list[Any]:
        mine = self.order.step(step, self.runtime.rank)
        for indices in mine.micro_batches:
            self._note_shape(indices)
        return [self._batch(indices) for indices in mine.micro_batches]

    def _note_shape(self, indices: tuple[int, ...]) -> None:
        """Keep the shape of the largest micro batch: what the peak of memory goes by."""
        packed = self.plan.schedule.batching == "packed"
        lengths = self.dataset.train.lengths[list(indices)]
        size = int(lengths.sum() if packed else len(lengths) * lengths.max())
        if self.largest is None or size > self.largest.size:
            rows = [self.dataset.train[index].tokens for index in indices]
            self.largest = shape_of(rows, packed=packed)

    def _apart(self, rows: list[int]) -> Iterator[tuple[Where, Any]]:
        """Give each row's place, and the row as a batch of its own."""
        for index in rows:
            row = self.dataset.train[index]
            yield Where(row.file, row.line), self._batch((index,))

    def _batch(self, indices: tuple[int, ...]) -> Any:
        rows = [self.dataset.train[index].tokens for index in indices]
        if self.plan.schedule.batching == "packed":
            return collate_packed(rows, device=self.runtime.device)
        collate = self.plan.task.collate
        return collate(rows, padding_id=self.padding_id, device=self.runtime.device)

    def _evaluate(self) -> None:
        assert self.plan.evaluation is not None
        started = time.perf_counter()
        progress = self.state.progress
        loss, measured = evaluate(
            self.plan.task,
            self.trained.model,
            self.dataset.evaluation,
            self.runtime,
            batch_size=self.plan.evaluation.batch_size,
            padding_id=self.padding_id,
        )
        check_evaluation_loss(progress.step, loss)
        may_end = self.trained.adapter.spec.may_end(progress.step)
        better = may_end and progress.add_evaluation(loss)
        if better:
            self.state.best = self.trained.adapter.state()
        self.report(
            Evaluated(
                step=progress.step,
                loss=loss,
                figures=measured.figures,
                per_class=measured.per_class,
                best=better,
                seconds=time.perf_counter() - started,
            )
        )

    def _save(self) -> None:
        saved = save_checkpoint(self.checkpoints, self.trained, self.state, digest=self.plan.digest)
        drop_earlier_run(self.checkpoints.parent)
        prune_checkpoints(self.checkpoints, self.plan.schedule.keep_checkpoints)
        self.report(CheckpointSaved(self.state.progress.step, str(saved)))
