"""Calibration: the rows that are trained on first, in the plan's own batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from lora_cli.data.batches.order import BatchOrder
from lora_cli.data.batches.units import units_of
from lora_cli.engine.calibration import first_rows, planned_calibration
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.engine.runtime import Runtime
from lora_cli.plan.batches import order_of_plan
from lora_cli.plan.run_plan import RunPlan
from tests.helpers.runs import plan_of, write_recipe

TinyModel = Callable[[str], Path]


def planned(folder: Path, base: Path, **adapter: Any) -> tuple[RunPlan, Any, Any]:
    """Return a plan, its training rows and its calibration."""
    plan = plan_of(write_recipe(folder, base, adapter=adapter, training={"batch_size": 5}))
    dataset = planned_dataset(plan, planned_tokenizer(plan))
    runtime = Runtime(device="cpu", processes=1)
    return plan, dataset.train, planned_calibration(plan, dataset, runtime, padding_id=257)


@given(rows=st.integers(1, 40), batch=st.integers(1, 5), count=st.integers(1, 60))
def test_the_first_rows_are_those_of_the_first_steps_once_each(
    rows: int, batch: int, count: int
) -> None:
    units = units_of(np.ones(rows, dtype=np.int32), [rows])
    order = BatchOrder(units, batch_size=batch, accumulation=2, processes=1, seed=3)
    steps = [
        row for step in range(1, order.steps_per_epoch + 1) for row in order.rows_of_step(step)
    ]
    found = first_rows(order, count)
    assert found == steps[:count]
    assert len(set(found)) == min(count, rows)


@pytest.mark.parametrize(("asked", "sizes"), [(12, [5, 5, 2]), (10, [5, 5]), (99, [5] * 4 + [4])])
def test_the_batches_hold_the_first_rows_in_the_order_of_training(
    tmp_path: Path, tiny_model: TinyModel, asked: int, sizes: list[int]
) -> None:
    plan, rows, calibration = planned(
        tmp_path, tiny_model("llama"), variant="eva", calibration_rows=asked
    )
    assert [len(batch.input_ids) for batch in calibration.batches] == sizes
    expected = [rows[i].tokens for i in first_rows(order_of_plan(plan, rows), asked)]
    held = [
        ids[mask.bool()].tolist()
        for batch in calibration.batches
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    assert held == [row.input_ids.tolist() for row in expected]


def test_it_is_the_same_every_time_and_another_with_another_seed(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    def ids(seed: int) -> list[Any]:
        recipe = write_recipe(
            tmp_path, tiny_model("llama"), adapter={"variant": "lora_ga"}, seed=seed
        )
        plan = plan_of(recipe)
        dataset = planned_dataset(plan, planned_tokenizer(plan))
        runtime = Runtime(device="cpu", processes=1)
        found = planned_calibration(plan, dataset, runtime, padding_id=257)
        assert found is not None
        return [batch.input_ids.tolist() for batch in found.batches]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


@pytest.mark.parametrize("variant", ["lora", "pissa", "olora"])
def test_a_start_without_data_has_none(tmp_path: Path, tiny_model: TinyModel, variant: str) -> None:
    assert planned(tmp_path, tiny_model("llama"), variant=variant)[2] is None


def test_the_loss_is_the_mean_over_the_supervised_tokens(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    plan, _, calibration = planned(tmp_path, tiny_model("llama"), variant="eva")
    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    batch = calibration.batches[0]
    theirs = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels
    ).loss
    mine = plan.task.mean_loss(model, batch)
    assert mine.requires_grad
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
