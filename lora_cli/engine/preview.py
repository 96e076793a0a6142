"""A plan → a preview of its rows: the same cache, the same order, and nothing trained."""

from __future__ import annotations

from itertools import chain, islice

from lora_cli.data.batches.order import BatchOrder
from lora_cli.data.batches.packing import Pack
from lora_cli.data.batches.units import Units
from lora_cli.data.encoding.encoders import encoder_for
from lora_cli.data.preview import PackFacts, Preview, Selection, make_preview
from lora_cli.data.preview_rows import RowReader
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.events import Report, unheard
from lora_cli.plan.batches import order_of_plan
from lora_cli.plan.run_plan import RunPlan


def preview_of_plan(plan: RunPlan, count: int, report: Report = unheard) -> Preview:
    """Return a preview with the first `count` rows, or packs of rows, in the order of training.

    Raises:
        RunError: the tokenizer or a file is not the one that was planned.
    """
    tokenizer = planned_tokenizer(plan)
    dataset = planned_dataset(plan, tokenizer, report)
    order = order_of_plan(plan, dataset.train)
    encoder = encoder_for(
        plan.task, tokenizer, max_length=plan.data.max_length, masking=plan.data.masking
    )
    chosen = Selection(
        units=_first_units(order, count),
        packs=_pack_facts(order.units, plan.data.max_length),
        max_length=plan.data.max_length,
        task=plan.task,
        system_prompts=[source.system_prompt for source in plan.data.sources],
    )
    return make_preview(dataset, encoder, RowReader(tokenizer, plan.task), chosen)


def _first_units(order: BatchOrder, count: int) -> list[Pack]:
    """Return the rows of the first units of training; those of one epoch, if it has no more."""
    steps = range(1, order.steps_per_epoch + 1)
    units = chain.from_iterable(map(order.units_of_step, steps))
    return [order.units.rows(unit) for unit in islice(units, count)]


def _pack_facts(units: Units, max_length: int) -> PackFacts | None:
    if units.packs is None:
        return None
    return PackFacts(len(units.packs), float(units.tokens.mean()) / max_length)
