"""run(plan, report) → RunResult: the whole story of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_cli.data.load import Dataset, RowSource, load_dataset
from lora_cli.data.tokenize import Tokenizer
from lora_cli.engine import run_directory
from lora_cli.engine.answers import compare_answers
from lora_cli.engine.artifacts import RunResult, write_adapter, write_loss_curve
from lora_cli.engine.cards import write_model_card, write_report
from lora_cli.engine.checkpoint import Trainables, load_checkpoint
from lora_cli.engine.loop import Training
from lora_cli.engine.metrics import MetricsFile, read_metrics
from lora_cli.engine.runtime import Runtime
from lora_cli.errors import RunError
from lora_cli.events import Event, Report, RunStarted, Stage
from lora_cli.facts.tokenizer import load_tokenizer
from lora_cli.files import write_text
from lora_cli.model.build import (
    BaseOptions,
    attach_adapter,
    enable_gradient_checkpointing,
    load_base,
)
from lora_cli.model.weights import fetch_weights
from lora_cli.plan.run_plan import RunPlan, SourcePlan


def run(
    plan: RunPlan, report: Report, *, resume: bool = False, overwrite: bool = False
) -> RunResult:
    """Carry out a plan and write its run directory; return what came of it.

    Raises:
        PlanError: the run directory is taken, or cannot be resumed.
        RunError: the data or the model is not what the plan says.
        GuardTrippedError: training was stopped for good reason.
        InterruptedRunError: a signal came; `resume=True` goes on.
    """
    runtime = Runtime(
        device=plan.device.type, dtype=plan.model.dtype, processes=plan.schedule.processes
    )
    checkpoint = run_directory.open_run_directory(plan, resume=resume, overwrite=overwrite)
    folder = Path(plan.run_dir)

    report(Stage("reading the data"))
    tokenizer = _tokenizer(plan)
    dataset = _dataset(plan, tokenizer)

    report(Stage("loading the base model"))
    weights = _weights(plan)
    trained = _trainables(plan, weights, runtime)

    training = Training(plan, dataset, trained, runtime, report, _padding_id(tokenizer))
    if checkpoint is not None:
        training.progress, training.best = load_checkpoint(checkpoint, trained, plan.digest)
    metrics = MetricsFile(
        folder / run_directory.METRICS, keep_to_step=training.progress.step
    )

    def report_and_record(event: Event) -> None:
        metrics.write(event)
        report(event)

    training.report = report_and_record
    report(RunStarted(plan.schedule.steps, training.progress.step + 1))
    training.train()
    return _finish(training, tokenizer, weights)


def _finish(training: Training, tokenizer: Any, weights: Path) -> RunResult:
    """Write the best adapter and everything about it; the result file comes last."""
    plan, report, model = training.plan, training.report, training.trained.model
    folder = Path(plan.run_dir)
    if training.best is not None:
        _load_best(model, training.best)
    report(Stage("writing the adapter"))
    write_adapter(folder / run_directory.ADAPTER, model, tokenizer, plan, weights)
    scores = {}
    if plan.evaluation and plan.evaluation.answers:
        report(Stage("answering the evaluation rows"))
        scores = compare_answers(
            model,
            tokenizer,
            training.dataset.evaluation,
            plan.evaluation.answers,
            file=folder / "answers.jsonl",
            report=report,
        )
    result = _result(training, scores)
    write_loss_curve(folder)
    write_model_card(folder, plan, result)
    write_report(folder, plan, result)
    write_text(folder / run_directory.RESULT, result.to_json())
    return result


def _result(training: Training, scores: dict[str, dict[str, float]]) -> RunResult:
    folder = Path(training.plan.run_dir)
    steps = [m for m in read_metrics(folder / run_directory.METRICS) if m["kind"] == "step"]
    progress = training.progress
    return RunResult(
        run_dir=str(folder),
        adapter=str(folder / run_directory.ADAPTER),
        digest=training.plan.digest,
        steps=progress.step,
        final_loss=steps[-1]["loss"],
        tokens=sum(line["tokens"] for line in steps),
        seconds=sum(line["seconds"] for line in steps),
        peak_memory_bytes=max(line["memory_bytes"] for line in steps),
        best_step=progress.best_step or None,
        best_evaluation_loss=progress.best_loss,
        scores=scores,
    )


def _tokenizer(plan: RunPlan) -> Any:
    return load_tokenizer(
        Path(plan.model.folder), trust_remote_code=plan.model.trust_remote_code
    )


def _dataset(plan: RunPlan, tokenizer: Any) -> Dataset:
    """Return the plan's rows.

    Raises:
        RunError: a file is not the one that was planned.
    """
    evaluation = plan.evaluation
    dataset = load_dataset(
        [_row_source(source) for source in plan.data.sources],
        Tokenizer(tokenizer, max_length=plan.data.max_length),
        evaluation=_row_source(evaluation.source) if evaluation and evaluation.source else None,
        split=evaluation.split if evaluation else None,
        seed=plan.seed,
    )
    planned = [*plan.data.sources, *([evaluation.source] if evaluation and evaluation.source else [])]
    found = [*dataset.facts.sources]
    if dataset.facts.evaluation_source:
        found.append(dataset.facts.evaluation_source)
    for source, facts in zip(planned, found, strict=True):
        if source.sha256 != facts.sha256:
            raise RunError("changed after the plan was made", source.file, "plan again")
    return dataset


def _row_source(source: SourcePlan) -> RowSource:
    return RowSource(
        file=Path(source.file),
        format=source.format,
        max_rows=source.max_rows,
        system_prompt=source.system_prompt,
        on_bad_row=source.on_bad_row,
    )


def _weights(plan: RunPlan) -> Path:
    model = plan.model
    return fetch_weights(
        model.kind,
        Path(model.folder),
        name=model.name,
        revision=model.revision,
        gguf=Path(model.gguf) if model.gguf else None,
        allow_pickle=model.allow_pickle,
    )


def _trainables(plan: RunPlan, weights: Path, runtime: Runtime) -> Trainables:
    from transformers import get_scheduler

    options = BaseOptions(
        dtype=plan.model.dtype,
        attention=plan.model.attention,
        device=str(runtime.device),
        trust_remote_code=plan.model.trust_remote_code,
        allow_pickle=plan.model.allow_pickle,
    )
    model = attach_adapter(
        load_base(weights, plan.quantization, options),
        plan.adapter.spec,
        peft_names=plan.adapter.peft_names,
        modules=plan.adapter.modules,
        seed=plan.seed,
    )
    if plan.schedule.gradient_checkpointing:
        enable_gradient_checkpointing(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = plan.optimizer.build(parameters, plan.schedule.learning_rate)
    prepared_model, prepared_optimizer = runtime.prepare(model, optimizer)
    scheduler = get_scheduler(
        "constant_with_warmup" if plan.schedule.scheduler == "constant" else plan.schedule.scheduler,
        optimizer,
        num_warmup_steps=plan.schedule.warmup_steps,
        num_training_steps=plan.schedule.steps,
    )
    return Trainables(prepared_model, prepared_optimizer, scheduler)


def _padding_id(tokenizer: Any) -> int:
    padding = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if padding is None else padding)


def _load_best(model: Any, state: dict[str, Any]) -> None:
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, state)
