"""The plan's steps, learning rate and optimizer."""

from __future__ import annotations

import math

from lora_cli.adapters.qlora import Qlora
from lora_cli.optimizers import OptimizerSpec
from lora_cli.optimizers.adamw import AdamW
from lora_cli.optimizers.bitsandbytes import BitsAndBytesAdamW
from lora_cli.plan.batches import note_units
from lora_cli.plan.inputs import Inputs
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.run_plan import SchedulePlan
from lora_cli.recipe.schema import TrainingSection
from lora_cli.words import counted

DEFAULT_EPOCHS = 3.0
TAKEN_AS_WRITTEN = (
    "batching",
    "sampling_temperature",
    "batch_size",
    "gradient_accumulation_steps",
    "scheduler",
    "warmup_ratio",
    "max_gradient_norm",
    "gradient_checkpointing",
    "save_steps",
    "keep_checkpoints",
)


def resolve_schedule(inputs: Inputs, reasons: Reasons) -> SchedulePlan:
    """Return how many steps of how many rows are taken, and how."""
    training, units = inputs.recipe.training, inputs.facts.units
    processes = inputs.facts.machine.processes
    units_per_step = training.batch_size * training.gradient_accumulation_steps * processes
    steps_per_epoch = math.ceil(units.per_epoch / units_per_step)
    steps, epochs = _length(training, steps_per_epoch, reasons)
    # a step of warm-up begins at a rate of 0: one step at least is to learn something
    warmup = min(math.ceil(steps * training.warmup_ratio), steps - 1)
    learning_rate = _learning_rate(inputs, reasons)
    _note_training(training, reasons)
    reasons.note(
        "training.warmup_steps", warmup, "warmup_ratio of the steps, rounded up; less than all"
    )
    what = "rows" if units.packs is None else "packs"
    reasons.note(f"training.{what}_per_step", units_per_step, "batch × accumulation × processes")
    note_units(inputs, reasons)
    return SchedulePlan(
        steps=steps,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        units_per_epoch=units.per_epoch,
        processes=processes,
        tokens_per_step=round(
            units.tokens_per_epoch / units.per_epoch * min(units_per_step, units.per_epoch)
        ),
        learning_rate=learning_rate,
        warmup_steps=warmup,
        **{name: getattr(training, name) for name in TAKEN_AS_WRITTEN},
    )


def _length(training: TrainingSection, per_epoch: int, reasons: Reasons) -> tuple[int, float]:
    """Return (steps, epochs): the recipe gives one of the two."""
    if training.steps is not None:
        epochs = training.steps / per_epoch
        reasons.take("training", "steps", value=training.steps)
        reasons.note("training.epochs", epochs, f"an epoch is {counted(per_epoch, 'step')}")
        return training.steps, epochs
    epochs = DEFAULT_EPOCHS if training.epochs is None else training.epochs
    steps = max(1, round(epochs * per_epoch))
    reasons.take("training", "epochs", value=epochs)
    passes = f"{counted(epochs, 'epoch')} of {counted(per_epoch, 'step')}"
    reasons.note("training.steps", steps, passes)
    return steps, epochs


def _learning_rate(inputs: Inputs, reasons: Reasons) -> float:
    asked, spec = inputs.recipe.training.learning_rate, inputs.recipe.adapter
    rate = spec.learning_rate if asked is None else asked
    reasons.take("training", "learning_rate", value=rate, default=f"{spec.variant}'s default")
    return rate


def _note_training(training: TrainingSection, reasons: Reasons) -> None:
    for name in TAKEN_AS_WRITTEN:
        reasons.take("training", name, value=getattr(training, name))


def resolve_optimizer(inputs: Inputs, learning_rate: float, reasons: Reasons) -> OptimizerSpec:
    """Return the optimizer, the variant's own if the recipe names none."""
    asked, chosen = inputs.recipe.training.optimizer, "default"
    unnamed = asked is None or "name" not in asked.model_fields_set
    if unnamed and isinstance(inputs.recipe.adapter, Qlora):
        settings = asked.model_dump(exclude_unset=True) if asked else {}
        asked = BitsAndBytesAdamW(name="paged_adamw", **settings)
        chosen = "qlora has a paged optimizer"
    asked = asked or AdamW()
    for name, value in asked.model_dump().items():
        default = chosen if name == "name" else "default"
        reasons.take("training", "optimizer", name, value=value, default=default)
    if asked.paged and inputs.facts.machine.device == "cpu":
        why = "on a CPU the state is plain memory"
        reasons.note("training.optimizer.paging", "none", why)
    rate_of_b = asked.rate_of_b(learning_rate)
    if rate_of_b != learning_rate:
        reasons.note("training.learning_rate_of_b", rate_of_b, "lora_plus_ratio × learning_rate")
    return asked
