"""What a plan names, in memory: tokenizer, rows, weights, and the model ready to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_cli.adapters.prefix_tuning import PrefixTuning
from lora_cli.adapters.prompt_tuning import PromptTuning
from lora_cli.adapters.variant import Start
from lora_cli.data.encoding.encoders import encoder_for
from lora_cli.data.load import Dataset, RowSource, load_dataset
from lora_cli.engine.isolation import check_isolation
from lora_cli.engine.runtime import Runtime
from lora_cli.errors import RunError
from lora_cli.events import Notice, Report, unheard
from lora_cli.facts.cache import cached_sha256
from lora_cli.facts.tokenizer import chat_template_sha256, load_tokenizer, tokenizer_sha256
from lora_cli.model.base import BaseOptions
from lora_cli.model.build import AdapterOrder, BuiltModel, build_model
from lora_cli.model.evidence import Calibration
from lora_cli.model.weights import fetch_weights
from lora_cli.plan.run_plan import FilePlan, RunPlan, SourcePlan
from lora_cli.plan.task_part import config_changes
from lora_cli.step.ready import make_ready
from lora_cli.step.update import Trainables
from lora_cli.tasks.task import Task


def planned_tokenizer(plan: RunPlan) -> Any:
    """Return the base model's tokenizer.

    Raises:
        RunError: it is not the one that was planned.
    """
    model = plan.model
    tokenizer = load_tokenizer(
        Path(model.folder),
        trust_remote_code=model.trust_remote_code,
        generates=plan.task.generates,
        chat_template=model.chat_template,
    )
    planned = (model.tokenizer_sha256, model.chat_template_sha256)
    if planned != (tokenizer_sha256(tokenizer), chat_template_sha256(tokenizer)):
        message = "the tokenizer or its chat template changed after the plan was made"
        raise RunError(message, model.folder, "plan again")
    return tokenizer


def planned_dataset(plan: RunPlan, tokenizer: Any, report: Report = unheard) -> Dataset:
    """Return the plan's rows.

    Raises:
        RunError: a file is not the one that was planned.
    """
    evaluation = plan.evaluation
    apart = evaluation.source if evaluation else None
    for source in plan.sources:
        for file in source.files:
            _check_unchanged(file)
    dataset = load_dataset(
        [_row_source(source, plan.task) for source in plan.data.sources],
        encoder_for(
            plan.task, tokenizer, max_length=plan.data.max_length, masking=plan.data.masking
        ),
        evaluation=_row_source(apart, plan.task) if apart else None,
        split=evaluation.split if evaluation else None,
        seed=plan.seed,
        report=report,
    )
    if evaluation and evaluation.answers:
        dataset.evaluation.hold_examples()  # a night later, the file may be another
    return dataset


def _check_unchanged(file: FilePlan) -> None:
    path = Path(file.file)
    if not path.is_file():
        raise RunError("has gone since the plan was made", file.file, "plan again")
    if cached_sha256(path) != file.sha256:
        raise RunError("changed after the plan was made", file.file, "plan again")


def _row_source(source: SourcePlan, task: Task) -> RowSource:
    return RowSource(
        files=tuple(Path(each.file) for each in source.files),
        format=source.format,
        max_rows=source.max_rows,
        system_prompt=source.system_prompt,
        on_bad_row=source.on_bad_row,
        names=() if isinstance(source.columns, dict) else source.columns,
        columns=source.columns if isinstance(source.columns, dict) else {},
        template=source.template,
        kinds=task.kinds,
    )


def planned_weights(plan: RunPlan) -> Path:
    """Return the folder of the base model's weights, fetched or dequantised if need be."""
    model = plan.model
    return fetch_weights(
        model.kind,
        Path(model.folder),
        name=model.name,
        revision=model.revision,
        gguf=Path(model.gguf) if model.gguf else None,
        allow_pickle=model.allow_pickle,
    )


def build_trainables(
    plan: RunPlan,
    weights: Path,
    runtime: Runtime,
    report: Report,
    *,
    calibration: Calibration | None = None,
    starts: Mapping[str, Start] | None = None,
) -> Trainables:
    """Return the base with a new adapter, its optimizer and its schedule.

    `starts` are those of the run that is resumed; None lets the method compute them, from
    `calibration` if it needs data.

    Raises:
        RunError: the weights or the modules are not what the plan says, or the documents of a
            pack read each other.
    """
    import torch

    built = _model(plan, weights, runtime, report, calibration=calibration, starts=starts)
    model = built.adapter.model
    packed = plan.schedule.batching == "packed"
    make_ready(
        model,
        gradient_checkpointing=plan.schedule.gradient_checkpointing,
        packed=packed,
        attention=plan.model.attention,
    )
    if packed:
        check_isolation(model, dtype=plan.model.dtype, device=runtime.device)
    parameters = dict(model.named_parameters())
    optimizer = plan.optimizer.build(parameters, plan.schedule.learning_rate)
    trainable = sum(each.numel() for each in parameters.values() if each.requires_grad)
    if trainable != plan.adapter.trainable_parameters:
        planned = f"{plan.adapter.trainable_parameters:,}"
        raise RunError(f"{trainable:,} parameters would be trained; the plan says {planned}")
    prepared_model, prepared_optimizer = runtime.prepare(model, optimizer)
    scaler = torch.amp.GradScaler(plan.device.type, enabled=plan.model.dtype == "float16")
    scheduler = _scheduler(plan, optimizer)
    return Trainables(
        plan.task, prepared_model, built.adapter, prepared_optimizer, scheduler, scaler
    )


def _model(
    plan: RunPlan,
    weights: Path,
    runtime: Runtime,
    report: Report,
    *,
    calibration: Calibration | None,
    starts: Mapping[str, Start] | None,
) -> BuiltModel:
    options = BaseOptions(
        dtype=plan.model.dtype,
        attention=plan.model.attention,
        device=str(runtime.device),
        trust_remote_code=plan.model.trust_remote_code,
        allow_pickle=plan.model.allow_pickle,
        auto_class=plan.task.auto_class,
        heads=plan.model.heads,
        new_heads=plan.model.new_heads,
        config_changes=config_changes(plan),
        seed=plan.seed,
    )
    order = AdapterOrder(
        spec=plan.adapter.spec,
        peft_names=plan.adapter.peft_names,
        modules=plan.adapter.modules,
        seed=plan.seed,
        calibration=calibration,
        task=plan.task.peft_task,
    )
    built = build_model(weights, plan.quantization, options, order, starts=starts, report=report)
    if isinstance(order.spec, PromptTuning | PrefixTuning) and order.spec.text:
        tokens = planned_tokenizer(plan).encode(order.spec.text, add_special_tokens=False)
        order.spec.put_text(built.adapter.model, tokens)
    end_answers_at(built.adapter.model, list(plan.model.stop_tokens.values()))
    if built.unused:
        text = f"the base's files hold tensors that {plan.model.architecture} has no place for"
        report(Notice(f"{text}: {len(built.unused)} in all, the first `{built.unused[0]}`"))
    return built


def end_answers_at(model: Any, stops: Sequence[int]) -> None:
    """Let the model's answers end at `stops` too; a model that generates nothing has no answers."""
    config = getattr(model, "generation_config", None)
    if config is not None and stops:
        own = config.eos_token_id
        ends = [*stops, *(own if isinstance(own, list) else [own])]
        config.eos_token_id = list(dict.fromkeys(end for end in ends if end is not None))


def _scheduler(plan: RunPlan, optimizer: Any) -> Any:
    from transformers import get_scheduler

    name = plan.schedule.scheduler
    return get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer,
        num_warmup_steps=plan.schedule.warmup_steps,
        num_training_steps=plan.schedule.steps,
    )
