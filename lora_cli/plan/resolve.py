"""Recipe + facts → RunPlan. Pure: the same values give the same plan, and nothing is probed here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_cli.errors import PlanError
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.facts.dataset import DatasetFacts, SourceFacts
from lora_cli.facts.machine import MachineFacts
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.rules import find_problems, find_warnings
from lora_cli.plan.run_plan import (
    AdapterPlan,
    AnswersPlan,
    DataPlan,
    DevicePlan,
    DType,
    EvaluationPlan,
    ModelPlan,
    RunPlan,
    SchedulePlan,
    SourcePlan,
    TokensPlan,
)
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.recipe.schema import DatasetSection, Recipe
from lora_cli.targets.match import Matched

DEFAULT_EPOCHS = 3.0


@dataclass(frozen=True)
class Facts:
    """All that was probed for one plan."""

    machine: MachineFacts
    base: BaseModelFacts
    matched: Matched
    dataset: DatasetFacts
    chat_template_sha256: str | None
    run_dir: Path


def resolve_plan(loaded: LoadedRecipe, facts: Facts) -> RunPlan:
    """Return the plan.

    Raises:
        PlanError: with every rule that the plan breaks.
    """
    recipe = loaded.recipe
    reasons = Reasons(loaded.source)
    model = _model(recipe, facts, reasons)
    adapter = _adapter(recipe, facts, reasons)
    _quantization(recipe, reasons)
    data = _data(recipe, facts, reasons)
    schedule = _schedule(recipe, facts, reasons)
    evaluation = _evaluation(recipe, facts, schedule, reasons)
    reasons.take("seed", value=recipe.seed)
    reasons.take("output", "dir", value=facts.run_dir, default="default: runs/<recipe name>")
    plan = RunPlan(
        model=model,
        adapter=adapter,
        quantization=recipe.quantization,
        data=data,
        evaluation=evaluation,
        schedule=schedule,
        optimizer=recipe.training.optimizer,
        device=_device(facts.machine, reasons),
        seed=recipe.seed,
        run_dir=str(facts.run_dir),
        recipe_text=_recipe_text(loaded),
        decisions=tuple(reasons.decisions),
        warnings=(),
    )
    problems = find_problems(plan, facts.base, facts.machine, loaded.source)
    if problems:
        raise PlanError.from_problems(problems)
    return plan.model_copy(update={"warnings": tuple(find_warnings(plan))})


def longest_row(recipe: Recipe, base: BaseModelFacts) -> int:
    """Return the tokens kept of a row: `max_length`, or the model's context if that is shorter."""
    context = base.context_length
    return min(recipe.training.max_length, context) if context else recipe.training.max_length


def _recipe_text(loaded: LoadedRecipe) -> str:
    flags = "".join(f"# loracli --set {override}\n" for override in loaded.overrides)
    return loaded.text.rstrip("\n") + "\n" + flags


def _model(recipe: Recipe, facts: Facts, reasons: Reasons) -> ModelPlan:
    section, base = recipe.model, facts.base
    reasons.take("model", "name", value=section.name)
    if base.source.kind == "hub":
        reasons.take("model", "revision", value=base.source.revision, default="main, pinned")
    dtype, why = _dtype(recipe, facts)
    reasons.take("model", "dtype", value=dtype, default=why)
    if section.dtype == "auto" and reasons.decisions[-1].reason != why:
        reasons.decisions[-1] = reasons.decisions[-1].model_copy(update={"reason": why})
    attention = "sdpa" if section.attention == "auto" else section.attention
    reasons.take("model", "attention", value=attention)
    reasons.take("model", "trust_remote_code", value=section.trust_remote_code)
    reasons.take("model", "allow_pickle", value=section.allow_pickle)
    return ModelPlan(
        name=section.name,
        kind=base.source.kind,
        folder=str(base.source.folder),
        gguf=str(base.source.gguf) if base.source.gguf else None,
        revision=base.source.revision,
        fingerprint=base.source.fingerprint,
        architecture=base.architecture,
        model_type=base.model_type,
        parameters=base.parameters,
        context_length=base.context_length,
        tied_embeddings=base.tied_embeddings,
        chat_template_sha256=facts.chat_template_sha256,
        dtype=dtype,
        attention=attention,
        trust_remote_code=section.trust_remote_code,
        allow_pickle=section.allow_pickle,
    )


def _dtype(recipe: Recipe, facts: Facts) -> tuple[DType, str]:
    """Return the base's dtype and why."""
    if recipe.model.dtype != "auto":
        return recipe.model.dtype, "recipe"
    machine = facts.machine
    if machine.fast_bfloat16:
        return "bfloat16", f"this {machine.device} computes bfloat16 in hardware"
    if machine.device == "cuda":
        return "float16", "this GPU has no bfloat16"
    return "float32", "this CPU has no bfloat16 instructions"


def _adapter(recipe: Recipe, facts: Facts, reasons: Reasons) -> AdapterPlan:
    spec, matched = recipe.adapter, facts.matched
    trainable = sum(
        spec.trainable_parameters(linear.in_features, linear.out_features)
        for linear in matched.modules
    )
    reasons.take("adapter", "variant", value=spec.variant)
    reasons.take("adapter", "rank", value=spec.rank)
    reasons.take("adapter", "alpha", value=spec.resolved_alpha, default=f"{spec.variant}'s default")
    reasons.take("adapter", "dropout", value=spec.dropout)
    reasons.take("adapter", "target_modules", value=", ".join(matched.peft_names))
    formula = "alpha / √rank" if spec.rank_stabilised else "alpha / rank"
    reasons.note("adapter.scaling", spec.scaling, formula)
    reasons.note("adapter.modules", len(matched.modules), "measured on the meta device")
    reasons.note("adapter.trainable_parameters", trainable, "measured on the meta device")
    return AdapterPlan(
        spec=spec.model_copy(update={"alpha": spec.resolved_alpha}),
        scaling=spec.scaling,
        modules=tuple(linear.name for linear in matched.modules),
        peft_names=matched.peft_names,
        trainable_parameters=trainable,
    )


def _quantization(recipe: Recipe, reasons: Reasons) -> None:
    for name, value in recipe.quantization.model_dump().items():
        reasons.take("quantization", name, value=value)


def _data(recipe: Recipe, facts: Facts, reasons: Reasons) -> DataPlan:
    pairs = zip(recipe.dataset, facts.dataset.sources, strict=True)
    sources = tuple(
        _source(section, source, reasons, index) for index, (section, source) in enumerate(pairs)
    )
    max_length = longest_row(recipe, facts.base)
    if max_length < recipe.training.max_length:
        reasons.note("training.max_length", max_length, "the model's context")
    else:
        reasons.take("training", "max_length", value=max_length)
    return DataPlan(
        sources=sources,
        max_length=max_length,
        train=TokensPlan(**asdict(facts.dataset.train)),
    )


def _source(
    section: DatasetSection, source: SourceFacts, reasons: Reasons, index: int
) -> SourcePlan:
    key: tuple[str | int, ...] = ("dataset", index)
    reasons.take(*key, "path", value=source.file)
    if section.split is not None:
        reasons.take(*key, "split", value=section.split)
    reasons.take(*key, "format", value=source.format, default=source.evidence)
    reasons.take(*key, "max_rows", value=section.max_rows)
    reasons.take(*key, "system_prompt", value=section.system_prompt)
    reasons.take(*key, "on_bad_row", value=section.on_bad_row)
    reasons.note(f"dataset[{index}].rows", source.kept, f"{source.rows} read, the rest dropped")
    return _source_plan(source, section)


def _source_plan(source: SourceFacts, section: DatasetSection) -> SourcePlan:
    return SourcePlan(
        file=source.file,
        sha256=source.sha256,
        format=source.format,
        max_rows=section.max_rows,
        system_prompt=section.system_prompt,
        on_bad_row=section.on_bad_row,
        rows=source.rows,
        kept=source.kept,
        dropped=tuple(f"{row.line}: {row.reason}" for row in source.dropped),
    )


def _schedule(recipe: Recipe, facts: Facts, reasons: Reasons) -> SchedulePlan:
    training, train = recipe.training, facts.dataset.train
    accumulation, processes = training.gradient_accumulation_steps, facts.machine.processes
    rows_per_step = training.batch_size * accumulation * processes
    steps_per_epoch = math.ceil(train.rows / rows_per_step)
    epochs = DEFAULT_EPOCHS if training.epochs is None else training.epochs
    if training.steps is None:
        steps = max(1, round(epochs * steps_per_epoch))
        reasons.take("training", "epochs", value=epochs)
        reasons.note("training.steps", steps, f"{epochs:g} epochs of {steps_per_epoch} steps")
    else:
        steps, epochs = training.steps, training.steps / steps_per_epoch
        reasons.take("training", "steps", value=steps)
        reasons.note("training.epochs", epochs, f"{steps_per_epoch} steps are one epoch")
    warmup = math.ceil(steps * training.warmup_ratio)
    _note_training(recipe, reasons)
    reasons.note("training.warmup_steps", warmup, "warmup_ratio of the steps, rounded up")
    reasons.note("training.rows_per_step", rows_per_step, "batch × accumulation × processes")
    return SchedulePlan(
        steps=steps,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        batch_size=training.batch_size,
        gradient_accumulation_steps=accumulation,
        processes=processes,
        tokens_per_step=round(train.total / train.rows * min(rows_per_step, train.rows)),
        learning_rate=training.learning_rate,
        scheduler=training.scheduler,
        warmup_steps=warmup,
        max_gradient_norm=training.max_gradient_norm,
        gradient_checkpointing=training.gradient_checkpointing,
        save_steps=training.save_steps,
        keep_checkpoints=training.keep_checkpoints,
    )


def _note_training(recipe: Recipe, reasons: Reasons) -> None:
    training = recipe.training
    for name in (
        "batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "scheduler",
        "warmup_ratio",
        "max_gradient_norm",
        "gradient_checkpointing",
        "save_steps",
        "keep_checkpoints",
    ):
        reasons.take("training", name, value=getattr(training, name))
    for name, value in training.optimizer.model_dump().items():
        reasons.take("training", "optimizer", name, value=value)


def _evaluation(
    recipe: Recipe, facts: Facts, schedule: SchedulePlan, reasons: Reasons
) -> EvaluationPlan | None:
    section, tokens = recipe.evaluation, facts.dataset.evaluation
    if section is None or tokens is None:
        return None
    every = section.every_steps or min(schedule.steps_per_epoch, schedule.steps)
    if section.split is not None:
        reasons.take("evaluation", "split", value=section.split)
    source = facts.dataset.evaluation_source
    if source is not None:
        reasons.take("evaluation", "path", value=source.file)
    reasons.note("evaluation.rows", tokens.rows, "measured")
    reasons.take("evaluation", "every_steps", value=every, default="default: once an epoch")
    reasons.take("evaluation", "batch_size", value=section.batch_size)
    reasons.take("evaluation", "patience", value=section.patience)
    return EvaluationPlan(
        source=_source_plan(source, recipe.dataset[0].model_copy(update={"max_rows": None}))
        if source
        else None,
        split=section.split,
        tokens=TokensPlan(**asdict(tokens)),
        every_steps=every,
        batch_size=section.batch_size,
        patience=section.patience,
        answers=_answers(recipe, reasons),
    )


def _answers(recipe: Recipe, reasons: Reasons) -> AnswersPlan | None:
    assert recipe.evaluation is not None
    section = recipe.evaluation.answers
    if section is None:
        return None
    values: dict[str, Any] = section.model_dump()
    for name, value in values.items():
        reasons.take("evaluation", "answers", name, value=value)
    return AnswersPlan(**values)


def _device(machine: MachineFacts, reasons: Reasons) -> DevicePlan:
    reasons.note("device", machine.device, machine.name)
    reasons.note("processes", machine.processes, "WORLD_SIZE, or 1")
    return DevicePlan(type=machine.device, name=machine.name, memory_bytes=machine.memory_bytes)
