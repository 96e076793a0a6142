"""Simulated steps of tasks other than text, beside the allocator's count."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_cli.memory.batch_shape import BatchShape
from lora_cli.memory.simulate import simulate, twice
from tests.helpers.measured import measured, predicted
from tests.helpers.runs import plan_of
from tests.helpers.task_rows import write_case

SHAPE = BatchShape(4, 40, padded=True, target_tokens=24)
TOLERANCE = 0.005
"""The issue's."""


@pytest.mark.parametrize("name", ["bert_texts", "llama_texts", "bert_words", "t5"])
def test_the_peak_of_a_tasks_step_is_the_allocators(name: str, tmp_path: Path) -> None:
    plan = plan_of(write_case(tmp_path, name))
    told, found = predicted(plan, twice(plan, SHAPE)), measured(plan, twice(plan, SHAPE))
    assert told.loaded == found.loaded
    assert told.steps == pytest.approx(found.steps, rel=TOLERANCE)
    on_a_gpu = plan.model_copy(update={"device": plan.device.model_copy(update={"type": "cuda"})})
    assert simulate(on_a_gpu).peak_bytes() > told.loaded
