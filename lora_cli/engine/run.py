"""run(plan, report) → RunResult: the whole story of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

from lora_cli.engine.artifacts import RunResult
from lora_cli.engine.calibration import planned_calibration
from lora_cli.engine.checkpoint import State, load_checkpoint, newest_checkpoint
from lora_cli.engine.finish import finish
from lora_cli.engine.loop import Training
from lora_cli.engine.metrics import MetricsFile
from lora_cli.engine.prepare import (
    build_trainables,
    planned_dataset,
    planned_tokenizer,
    planned_weights,
)
from lora_cli.engine.progress import Progress
from lora_cli.engine.run_directory import CHECKPOINTS, METRICS, begin_run, run_directory_held
from lora_cli.engine.runtime import Runtime
from lora_cli.engine.signals import signals_raised
from lora_cli.engine.starts import read_starts, write_starts
from lora_cli.errors import PlanError
from lora_cli.events import Event, Notice, Report, Resumed, RunStarted, Stage
from lora_cli.files import remove_leftovers
from lora_cli.plan.run_plan import RunPlan


def run(
    plan: RunPlan, report: Report, *, resume: bool = False, overwrite: bool = False
) -> RunResult:
    """Carry out a plan and write its run directory; return what came of it.

    The directory is left as it was until data and model are there, and an earlier run in it is kept
    until the first checkpoint: a run of which nothing comes replaces nothing.

    Raises:
        PlanError: the run directory is taken, or cannot be resumed.
        RunError: the data or the model is not what the plan says.
        GuardTrippedError: training was stopped for good reason.
        InterruptedRunError: a signal came; `resume=True` goes on.
    """
    with run_directory_held(plan, report, resume=resume, overwrite=overwrite):
        checkpoint, damaged = _checkpoint_to_resume(plan) if resume else (None, [])
        runtime = Runtime(device=plan.device.type, processes=plan.schedule.processes)

        report(Stage("reading the data"))
        tokenizer = planned_tokenizer(plan)
        dataset = planned_dataset(plan, tokenizer, report)

        report(Stage("loading the base model"))
        memory_before = runtime.memory_bytes()
        weights = planned_weights(plan)
        padding = plan.model.padding_token
        calibration = planned_calibration(plan, dataset, runtime, padding_id=padding)
        earlier = read_starts(plan) if checkpoint else None
        trained = build_trainables(
            plan, weights, runtime, report, calibration=calibration, starts=earlier
        )
        if checkpoint is None:
            begin_run(plan)
            write_starts(plan, trained.adapter.starts)
            state = State(Progress())
        else:
            state = load_checkpoint(checkpoint, trained, digest=plan.digest)
            _drop_damaged(damaged, checkpoint, report)
            report(Resumed(state.progress.step, str(checkpoint)))

        metrics = MetricsFile(Path(plan.run_dir) / METRICS, keep_to_step=state.progress.step)

        def report_and_record(event: Event) -> None:
            metrics.write(event)
            report(event)

        training = Training(
            plan, dataset, trained, runtime, padding, state, report_and_record, memory_before
        )
        report(RunStarted(plan.schedule.steps, state.progress.step + 1))
        training.train()
        with signals_raised(state.progress.step):
            return finish(training, tokenizer, weights)


def _checkpoint_to_resume(plan: RunPlan) -> tuple[Path, list[Path]]:
    """Return the newest whole checkpoint, and the damaged ones that are newer.

    Raises:
        PlanError: no checkpoint is whole.
    """
    folder = Path(plan.run_dir) / CHECKPOINTS
    newest, damaged = newest_checkpoint(folder)
    if newest is None:
        hint = "begin again with --overwrite"
        raise PlanError("has no whole checkpoint to resume from", str(folder), hint)
    return newest, damaged


def _drop_damaged(damaged: list[Path], checkpoint: Path, report: Report) -> None:
    for path in damaged:
        report(Notice(f"checkpoint {path.name} is damaged: going on from {checkpoint.name}"))
        shutil.rmtree(path)
    remove_leftovers(checkpoint.parent)
