"""The plan's steps and learning rate."""

from __future__ import annotations

import math

from lora_cli.plan.inputs import Inputs
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.run_plan import SchedulePlan
from lora_cli.recipe.schema import TrainingSection

DEFAULT_EPOCHS = 3.0
TAKEN_AS_WRITTEN = (
    "batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "scheduler",
    "warmup_ratio",
    "max_gradient_norm",
    "gradient_checkpointing",
    "save_steps",
    "keep_checkpoints",
)


def resolve_schedule(inputs: Inputs, reasons: Reasons) -> SchedulePlan:
    """Return how many steps of how many rows are taken, and how."""
    training, train = inputs.recipe.training, inputs.facts.dataset.train
    processes = inputs.facts.machine.processes
    rows_per_step = training.batch_size * training.gradient_accumulation_steps * processes
    steps_per_epoch = math.ceil(train.rows / rows_per_step)
    steps, epochs = _length(training, steps_per_epoch, reasons)
    warmup = math.ceil(steps * training.warmup_ratio)
    _note_training(training, reasons)
    reasons.note("training.warmup_steps", warmup, "warmup_ratio of the steps, rounded up")
    reasons.note("training.rows_per_step", rows_per_step, "batch × accumulation × processes")
    return SchedulePlan(
        steps=steps,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        processes=processes,
        tokens_per_step=round(train.total / train.rows * min(rows_per_step, train.rows)),
        warmup_steps=warmup,
        **{name: getattr(training, name) for name in TAKEN_AS_WRITTEN},
    )


def _length(training: TrainingSection, per_epoch: int, reasons: Reasons) -> tuple[int, float]:
    """Return (steps, epochs): the recipe gives one of the two."""
    if training.steps is not None:
        epochs = training.steps / per_epoch
        reasons.take("training", "steps", value=training.steps)
        reasons.note("training.epochs", epochs, f"{per_epoch} steps are one epoch")
        return training.steps, epochs
    epochs = DEFAULT_EPOCHS if training.epochs is None else training.epochs
    steps = max(1, round(epochs * per_epoch))
    reasons.take("training", "epochs", value=epochs)
    reasons.note("training.steps", steps, f"{epochs:g} epochs of {per_epoch} steps")
    return steps, epochs


def _note_training(training: TrainingSection, reasons: Reasons) -> None:
    for name in TAKEN_AS_WRITTEN:
        reasons.take("training", name, value=getattr(training, name))
    for name, value in training.optimizer.model_dump().items():
        reasons.take("training", "optimizer", name, value=value)
