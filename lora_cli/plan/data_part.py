"""The plan's rows: those to train on, and those kept apart to evaluate on."""

from __future__ import annotations

from typing import Any

from lora_cli.facts.dataset import DroppedRow, SourceFacts
from lora_cli.plan.inputs import Inputs, longest_row
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.run_plan import (
    AnswersPlan,
    DataPlan,
    EvaluationPlan,
    SchedulePlan,
    SourcePlan,
)
from lora_cli.recipe.schema import AnswersSection, DatasetSection
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
    _note_tokens(inputs, reasons)
    return DataPlan(
        sources=tuple(map(_source_plan, dataset.sources, recipe.dataset)),
        max_length=max_length,
        train=dataset.train,
    )


def _note_source(
    section: DatasetSection, source: SourceFacts, index: int, reasons: Reasons
) -> None:
    key: tuple[str | int, ...] = ("dataset", index)
    found = source.evidence if section.format == "auto" else ""
    reasons.take(*key, "path", value=source.file)
    reasons.take(*key, "split", value=section.split)
    reasons.take(*key, "format", value=source.format, measured=found)
    reasons.take(*key, "max_rows", value=section.max_rows)
    reasons.take(*key, "system_prompt", value=section.system_prompt)
    reasons.take(*key, "on_bad_row", value=section.on_bad_row)
    dropped = f"dropped: {len(source.dropped)} of {counted(source.rows, 'row')}"
    reasons.note(f"dataset[{index}].rows", source.kept, dropped)


def _note_tokens(inputs: Inputs, reasons: Reasons) -> None:
    tokens = inputs.facts.dataset.train
    reasons.note("dataset.train_rows", tokens.rows, "all rows, less those of `evaluation.split`")
    reasons.note("dataset.tokens", tokens.total, "of those rows, with the model's tokenizer")
    share = f"{tokens.supervised / tokens.total:.1%} of the tokens"
    reasons.note("dataset.supervised_tokens", tokens.supervised, share)


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
        dropped=tuple(map(_dropped, source.dropped)),
    )


def _dropped(row: DroppedRow) -> str:
    position = f"{row.line}:{row.column}" if row.column else f"{row.line}"
    return f"{position}: {row.reason}"


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
    reasons.take("evaluation", "path", value=source.file if source else None)
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
    return datasets[0].model_copy(update={"max_rows": None})


def _answers(section: AnswersSection, reasons: Reasons) -> AnswersPlan:
    values: dict[str, Any] = section.model_dump()
    for name, value in values.items():
        reasons.take("evaluation", "answers", name, value=value)
    return AnswersPlan(**values)
