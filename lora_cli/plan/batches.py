"""What the plan's batches are made of: the same units for the plan and for the run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora_cli.data.batches.order import BatchOrder
from lora_cli.data.batches.units import Mixing, Units, units_of
from lora_cli.data.rows import Rows
from lora_cli.facts.base_model import BaseModelFacts
from lora_cli.plan.inputs import Inputs, longest_row
from lora_cli.plan.reasons import Reasons
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.words import counted


def units_of_recipe(loaded: LoadedRecipe, base: BaseModelFacts, rows: Rows) -> Units:
    """Return what the recipe's batches are made of.

    Raises:
        PlanError: a source that is to be mixed in has no rows.
    """
    training, weights = loaded.recipe.training, [each.weight for each in loaded.recipe.dataset]
    pack_to = longest_row(loaded, base) if training.batching == "packed" else None
    return _units(rows, pack_to, weights, training.sampling_temperature)


def order_of_plan(plan: RunPlan, rows: Rows) -> BatchOrder:
    """Return the order in which the plan trains on its rows."""
    schedule = plan.schedule
    pack_to = plan.data.max_length if schedule.batching == "packed" else None
    weights = [source.weight for source in plan.data.sources]
    return BatchOrder(
        units=_units(rows, pack_to, weights, schedule.sampling_temperature),
        batch_size=schedule.batch_size,
        accumulation=schedule.gradient_accumulation_steps,
        processes=schedule.processes,
        seed=plan.seed,
        by_length=schedule.batching == "length_grouped",
    )


def _units(
    rows: Rows, pack_to: int | None, weights: Sequence[float | None], temperature: float | None
) -> Units:
    assert bool((np.diff(rows.source) >= 0).all()), "rows stand in the order of their sources"
    mixing = Mixing(tuple(weight for weight in weights if weight is not None), temperature)
    counts = np.bincount(rows.source, minlength=len(weights)).tolist()
    return units_of(rows.lengths, counts, pack_to=pack_to, mixing=mixing)


def note_units(inputs: Inputs, reasons: Reasons) -> None:
    """Note how full the packs are, and what an epoch takes of each source that is mixed in."""
    units = inputs.facts.units
    noun = "row" if units.packs is None else "pack"
    if units.packs is not None:
        full = units.tokens.mean() / longest_row(inputs.loaded, inputs.facts.base)
        rows = counted(sum(map(len, units.packs)), "row")
        reasons.note("training.packs", len(units.packs), f"of {rows}, {full:.2%} full on average")
    for index, part in enumerate(units.parts):
        share = f"{part.per_epoch / units.per_epoch:.1%} of an epoch"
        times = f"each {counted(part.per_epoch / part.count, 'time')}"
        reason = f"{share}: {times}, of {counted(part.count, noun)}"
        reasons.note(f"dataset[{index}].{noun}s_per_epoch", part.per_epoch, reason)
