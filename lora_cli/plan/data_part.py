"""The plan's rows: those to train on, and those kept apart to evaluate on."""

from __future__ import annotations

from typing import Any

from lora_cli.facts.dataset import DroppedRow, FileFacts, SourceFacts
from lora_cli.plan.inputs import Inputs, longest_row
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.run_plan import (
    AnswersPlan,
    DataPlan,
    EvaluationPlan,
    FilePlan,
    SchedulePlan,
    SourcePlan,
)
from lora_cli.recipe.schema import AnswersSection, DatasetSection, TrainingSection
from lora_cli.tasks.masking import Masking
from lora_cli.words import counted


def resolve_data(inputs: Inputs, reasons: Reasons) -> DataPlan:
    """Return the training rows: files, counts and tokens."""
    recipe, dataset = inputs.recipe, inputs.facts.dataset
    sources = zip(recipe.dataset, dataset.sources, strict=True)
    for index, (section, source) in enumerate(sources):
        _note_source(section, source, index, reasons)
    max_length = longest_row(inputs.loaded, inputs.facts.base)
    shorter = "the model's context" if max_length < recipe.training.max_length else ""
    reasons.take("training", "max_length", value=max_length, measured=shorter)
    for name, value in masking_of(recipe.training).model_dump().items():
        reasons.take("training", name, value=value)
    _note_tokens(inputs, reasons)
    return DataPlan(
        sources=tuple(map(_source_plan, dataset.sources, recipe.dataset)),
        max_length=max_length,
        masking=masking_of(recipe.training),
        train=dataset.train,
    )


def masking_of(training: TrainingSection) -> Masking:
    """Return what of an example the recipe says to learn."""
    return Masking(
        loss_on=training.loss_on, reasoning=training.reasoning, truncation=training.truncation
    )


def _note_source(
    section: DatasetSection, source: SourceFacts, index: int, reasons: Reasons
) -> None:
    key: tuple[str | int, ...] = ("dataset", index)
    found = source.evidence if section.format == "auto" else ""
    reasons.take(*key, "path", value=_named(source.files))
    reasons.take(*key, "split", value=section.split)
    reasons.take(*key, "subset", value=section.subset)
    reasons.take(*key, "format", value=source.format, measured=found)
    reasons.take(*key, "columns", value=_listed(section.columns))
    for name, text in section.template or ():
        reasons.take(*key, "template", name, value=text)
    reasons.take(*key, "max_rows", value=section.max_rows)
    reasons.take(*key, "system_prompt", value=section.system_prompt)
    reasons.take(*key, "weight", value=section.weight)
    reasons.take(*key, "on_bad_row", value=section.on_bad_row)
    dropped = f"dropped: {source.dropped.count:,} of {counted(source.rows, 'row')}"
    reasons.note(f"dataset[{index}].rows", source.kept, dropped)


def _note_tokens(inputs: Inputs, reasons: Reasons) -> None:
    tokens = inputs.facts.dataset.train
    reasons.note("dataset.train_rows", tokens.rows, "all rows, less those of `evaluation.split`")
    reasons.note("dataset.tokens", tokens.total, "of those rows, with the model's tokenizer")
    if inputs.facts.task.name == "causal_lm":
        share = f"{tokens.supervised / tokens.total:.1%} of the tokens"
        reasons.note("dataset.supervised_tokens", tokens.supervised, share)
    else:
        reasons.note("dataset.labels", tokens.supervised, "what is learnt of those rows")


def _source_plan(source: SourceFacts, section: DatasetSection) -> SourcePlan:
    return SourcePlan(
        files=tuple(FilePlan(file=each.file, sha256=each.sha256) for each in source.files),
        format=source.format,
        columns=section.columns,
        template=section.template_parts,
        max_rows=section.max_rows,
        system_prompt=section.system_prompt,
        on_bad_row=section.on_bad_row,
        weight=section.weight,
        rows=source.rows,
        kept=source.kept,
        dropped=tuple(_dropped(row, source.files) for row in source.dropped.first),
        dropped_by_reason=dict(source.dropped.by_reason),
    )


def _listed(columns: dict[str, str] | tuple[str, ...]) -> str | None:
    """Return `prompt = question`, or the names of a file without a header."""
    if isinstance(columns, dict):
        columns = tuple(f"{name} = {column}" for name, column in columns.items())
    return ", ".join(columns) or None


def _named(files: tuple[FileFacts, ...]) -> str:
    """Return the first file, and how many come after it."""
    return files[0].file + (f" and {len(files) - 1:,} more" if len(files) > 1 else "")


def _dropped(row: DroppedRow, files: tuple[FileFacts, ...]) -> str:
    position = f"{row.line}:{row.column}" if row.column else f"{row.line}"
    file = f"{row.file}:" if len(files) > 1 else ""
    return f"{file}{position}: {row.reason}"


def resolve_evaluation(
    inputs: Inputs, schedule: SchedulePlan, reasons: Reasons
) -> EvaluationPlan | None:
    """Return when and on what to evaluate, or None if the recipe does not ask for it."""
    section, dataset = inputs.recipe.evaluation, inputs.facts.dataset
    if section is None:
        return None
    tokens, source = dataset.evaluation, dataset.evaluation_source
    assert tokens is not None, "evaluation without rows"
    every = section.every_steps or min(schedule.steps_per_epoch, schedule.steps)
    reasons.take("evaluation", "split", value=section.split)
    reasons.take("evaluation", "path", value=_named(source.files) if source else None)
    reasons.take("evaluation", "split_name", value=section.split_name)
    reasons.note("evaluation.rows", tokens.rows, "measured")
    reasons.take("evaluation", "every_steps", value=every, default="default: once an epoch")
    reasons.take("evaluation", "batch_size", value=section.batch_size)
    reasons.take("evaluation", "patience", value=section.patience)
    like = evaluation_section(inputs.recipe.dataset)
    return EvaluationPlan(
        source=_source_plan(source, like) if source else None,
        split=section.split,
        tokens=tokens,
        every_steps=every,
        batch_size=section.batch_size,
        patience=section.patience,
        answers=_answers(section.answers, reasons) if section.answers else None,
    )


def evaluation_section(datasets: tuple[DatasetSection, ...]) -> DatasetSection:
    """Return how an evaluation file is read: as the first training source, but whole."""
    return datasets[0].model_copy(update={"max_rows": None, "weight": None})


def _answers(section: AnswersSection, reasons: Reasons) -> AnswersPlan:
    values: dict[str, Any] = section.model_dump()
    for name, value in values.items():
        shown = ", ".join(value) if isinstance(value, tuple | list) else value
        reasons.take("evaluation", "answers", name, value=shown)
    return AnswersPlan(**values)
