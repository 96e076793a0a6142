"""What a plan names, in memory: tokenizer, rows, weights, and the model ready to train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_cli.adapters.prefix_tuning import PrefixTuning
from lora_cli.adapters.prompt_tuning import PromptTuning
from lora_cli.adapters.variant import Start
from lora_cli.data.load import Dataset, RowSource, load_dataset
from lora_cli.data.tokenize import Tokenizer
from lora_cli.engine.runtime import Runtime
from lora_cli.engine.update import Trainables
from lora_cli.errors import RunError
from lora_cli.events import Notice, Report
from lora_cli.facts.tokenizer import chat_template_sha256, load_tokenizer, tokenizer_sha256
from lora_cli.files import sha256_of_file
from lora_cli.model.adapter import enable_gradient_checkpointing
from lora_cli.model.base import BaseOptions
from lora_cli.model.build import AdapterOrder, BuiltModel, build_model
from lora_cli.model.evidence import Calibration
from lora_cli.model.weights import fetch_weights
from lora_cli.plan.run_plan import RunPlan, SourcePlan


def planned_tokenizer(plan: RunPlan) -> Any:
    """Return the base model's tokenizer.

    Raises:
        RunError: it is not the one that was planned.
    """
    model = plan.model
    tokenizer = load_tokenizer(Path(model.folder), trust_remote_code=model.trust_remote_code)
    planned = (model.tokenizer_sha256, model.chat_template_sha256)
    if planned != (tokenizer_sha256(tokenizer), chat_template_sha256(tokenizer)):
        message = "the tokenizer or its chat template changed after the plan was made"
        raise RunError(message, model.folder, "plan again")
    return tokenizer


def padding_id(tokenizer: Any) -> int:
    """Return the token to pad with; what it is does not matter, padding is masked by position."""
    padding = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if padding is None else padding)


def planned_dataset(plan: RunPlan, tokenizer: Any) -> Dataset:
    """Return the plan's rows.

    Raises:
        RunError: a file is not the one that was planned.
    """
    evaluation = plan.evaluation
    apart = evaluation.source if evaluation else None
    for source in (*plan.data.sources, *([apart] if apart else [])):
        _check_unchanged(source)
    return load_dataset(
        [_row_source(source) for source in plan.data.sources],
        Tokenizer(tokenizer, max_length=plan.data.max_length),
        evaluation=_row_source(apart) if apart else None,
        split=evaluation.split if evaluation else None,
        seed=plan.seed,
    )


def _check_unchanged(source: SourcePlan) -> None:
    path = Path(source.file)
    if not path.is_file():
        raise RunError("has gone since the plan was made", source.file, "plan again")
    if sha256_of_file(path) != source.sha256:
        raise RunError("changed after the plan was made", source.file, "plan again")


def _row_source(source: SourcePlan) -> RowSource:
    return RowSource(
        file=Path(source.file),
        format=source.format,
        max_rows=source.max_rows,
        system_prompt=source.system_prompt,
        on_bad_row=source.on_bad_row,
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
        RunError: the weights or the modules are not what the plan says.
    """
    import torch

    built = _model(plan, weights, runtime, report, calibration=calibration, starts=starts)
    model = built.adapter.model
    if plan.schedule.gradient_checkpointing:
        enable_gradient_checkpointing(model)
    parameters = dict(model.named_parameters())
    optimizer = plan.optimizer.build(parameters, plan.schedule.learning_rate)
    trainable = sum(each.numel() for each in parameters.values() if each.requires_grad)
    if trainable != plan.adapter.trainable_parameters:
        planned = f"{plan.adapter.trainable_parameters:,}"
        raise RunError(f"{trainable:,} parameters would be trained; the plan says {planned}")
    prepared_model, prepared_optimizer = runtime.prepare(model, optimizer)
    scaler = torch.amp.GradScaler(plan.device.type, enabled=plan.model.dtype == "float16")
    return Trainables(
        prepared_model, built.adapter, prepared_optimizer, _scheduler(plan, optimizer), scaler
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
        heads=plan.model.heads,
    )
    order = AdapterOrder(
        spec=plan.adapter.spec,
        peft_names=plan.adapter.peft_names,
        modules=plan.adapter.modules,
        seed=plan.seed,
        calibration=calibration,
    )
    built = build_model(weights, plan.quantization, options, order, starts=starts, report=report)
    if isinstance(order.spec, PromptTuning | PrefixTuning) and order.spec.text:
        tokens = planned_tokenizer(plan).encode(order.spec.text, add_special_tokens=False)
        order.spec.put_text(built.adapter.model, tokens)
    if built.unused:
        text = f"the base's files hold tensors that {plan.model.architecture} has no place for"
        report(Notice(f"{text}: {len(built.unused)} in all, the first `{built.unused[0]}`"))
    return built


def _scheduler(plan: RunPlan, optimizer: Any) -> Any:
    from transformers import get_scheduler

    name = plan.schedule.scheduler
    return get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer,
        num_warmup_steps=plan.schedule.warmup_steps,
        num_training_steps=plan.schedule.steps,
    )
