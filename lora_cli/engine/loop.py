"""The training loop: accumulate, clip, step, evaluate, save; around `step`."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from lora_cli.data.load import Dataset
from lora_cli.data.order import RowOrder
from lora_cli.engine.checkpoint import (
    Progress,
    Trainables,
    adapter_state,
    prune_checkpoints,
    save_checkpoint,
)
from lora_cli.engine.evaluate import evaluate
from lora_cli.engine.guards import check_finite, check_gradients_reach
from lora_cli.engine.runtime import Runtime
from lora_cli.errors import InterruptedRunError
from lora_cli.events import CheckpointSaved, Evaluated, Report, StepDone, StoppedEarly
from lora_cli.plan.run_plan import RunPlan
from lora_cli.step.backward import accumulate_gradients, clip_gradients
from lora_cli.tasks.causal_lm import collate


@dataclass
class Training:
    """One run's state; `train` takes it from `progress.step` to the end."""

    plan: RunPlan
    dataset: Dataset
    trained: Trainables
    runtime: Runtime
    report: Report
    padding_id: int
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Any] | None = None
    """The adapter of the best evaluation so far."""

    def __post_init__(self) -> None:
        schedule = self.plan.schedule
        self.order = RowOrder(
            rows=len(self.dataset.train),
            batch_size=schedule.batch_size,
            accumulation=schedule.gradient_accumulation_steps,
            processes=schedule.processes,
            seed=self.plan.seed,
        )
        self.checkpoints = Path(self.plan.run_dir) / "checkpoints"

    def train(self) -> None:
        """Train to the last step, or to an early stop.

        Raises:
            GuardTrippedError: a loss or gradient is not finite, or no gradient arrives.
            InterruptedRunError: SIGINT or SIGTERM came; a checkpoint has been written.
        """
        schedule, evaluation = self.plan.schedule, self.plan.evaluation
        self.trained.model.train()
        with _signals_noted() as received:
            while self.progress.step < schedule.steps:
                self._step(self.progress.step + 1)
                step = self.progress.step
                last = step == schedule.steps
                if evaluation and (last or step % evaluation.every_steps == 0):
                    self._evaluate()
                stopping = self._out_of_patience()
                if last or stopping or received or step % schedule.save_steps == 0:
                    self._save()
                if received:
                    raise _interrupted(received[0], step)
                if stopping:
                    break

    def _step(self, step: int) -> None:
        started = time.perf_counter()
        rows = self.order.step(step, self.runtime.rank)
        everyone = [self.dataset.train[i].tokens for i in self.order.rows_of_step(step)]
        supervised = sum(row.supervised for row in everyone)
        loss = self._accumulate(rows.micro_batches, supervised)
        self.runtime.unscale()
        if step == 1:
            check_gradients_reach(self.trained.model.named_parameters())
        norm = float(clip_gradients(self._parameters(), self.plan.schedule.max_gradient_norm))
        check_finite(step, loss=loss, gradient_norm=norm)
        learning_rate = self.trained.scheduler.get_last_lr()[0]
        self.trained.optimizer.step()
        self.trained.scheduler.step()
        self.trained.optimizer.zero_grad(set_to_none=True)
        self.progress.step = step
        self.report(
            StepDone(
                step=step,
                epoch=step / self.order.steps_per_epoch,
                loss=loss,
                learning_rate=learning_rate,
                gradient_norm=norm,
                tokens=sum(row.input_ids.size for row in everyone),
                supervised_tokens=supervised,
                seconds=time.perf_counter() - started,
                memory_bytes=self.runtime.memory_bytes(),
            )
        )

    def _accumulate(self, micro_batches: tuple[tuple[int, ...], ...], supervised: int) -> float:
        """Add up the step's gradients; return its mean loss over all supervised tokens."""
        import torch

        model, runtime = self.trained.model, self.runtime
        total = torch.zeros((), device=runtime.device)
        # data-parallel gradients are averaged over processes: undo that, the loss is a true mean
        scale = runtime.processes / supervised
        for number, indices in enumerate(micro_batches, 1):
            batch = self._batch(indices)
            if number < len(micro_batches):
                with runtime.without_sync(model):
                    total += accumulate_gradients(
                        model, batch, scale=scale, backward=runtime.backward
                    )
            else:
                total += accumulate_gradients(model, batch, scale=scale, backward=runtime.backward)
        return float(runtime.sum(total)) / supervised

    def _batch(self, indices: tuple[int, ...]) -> Any:
        rows = [self.dataset.train[index].tokens for index in indices]
        pairs = [(row.input_ids, row.labels) for row in rows]
        return collate(pairs, padding_id=self.padding_id, device=self.runtime.device)

    def _parameters(self) -> list[Any]:
        return [p for p in self.trained.model.parameters() if p.requires_grad]

    def _evaluate(self) -> None:
        assert self.plan.evaluation is not None
        started = time.perf_counter()
        loss, accuracy = evaluate(
            self.trained.model,
            self.dataset.evaluation,
            self.runtime,
            batch_size=self.plan.evaluation.batch_size,
            padding_id=self.padding_id,
        )
        progress = self.progress
        better = progress.best_loss is None or loss < progress.best_loss
        if better:
            progress.best_loss, progress.best_step = loss, progress.step
            self.best = adapter_state(self.trained.model)
        progress.evaluations_since_best = 0 if better else progress.evaluations_since_best + 1
        self.report(
            Evaluated(
                step=progress.step,
                loss=loss,
                perplexity=math.exp(min(loss, 100.0)),
                token_accuracy=accuracy,
                best=better,
                seconds=time.perf_counter() - started,
            )
        )

    def _out_of_patience(self) -> bool:
        patience = self.plan.evaluation.patience if self.plan.evaluation else None
        if patience is None or self.progress.evaluations_since_best < patience:
            return False
        self.report(StoppedEarly(self.progress.step, patience))
        return True

    def _save(self) -> None:
        if self.runtime.is_main:
            saved = save_checkpoint(
                self.checkpoints,
                self.trained,
                self.progress,
                best=self.best,
                digest=self.plan.digest,
            )
            prune_checkpoints(self.checkpoints, self.plan.schedule.keep_checkpoints)
            self.report(CheckpointSaved(self.progress.step, str(saved)))
        self.runtime.wait()


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Give a list that SIGINT and SIGTERM are added to, instead of breaking off a step.

    A second signal of the same kind acts as it always did.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(number: int, step: int) -> InterruptedRunError:
    name = signal.Signals(number).name
    hint = "go on with the same command and --resume"
    return InterruptedRunError(
        f"{name} after step {step}; a checkpoint is written", hint, signal_number=number
    )
