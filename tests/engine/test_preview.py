"""A plan's preview: the rows that training begins with, packs with their borders, every task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_cli.data.preview import Preview
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.engine.preview import preview_of_plan
from lora_cli.plan.batches import order_of_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.tasks.causal_lm import IGNORED, collate_packed
from tests.helpers.runs import plan_of
from tests.helpers.task_rows import write_case

WriteRecipe = Callable[..., Path]


def lines_of(preview: Preview) -> list[list[int]]:
    return [[row.line for row in unit] for unit in preview.shown]


def trained_lines(plan: RunPlan, step: int) -> list[int]:
    train = planned_dataset(plan, planned_tokenizer(plan)).train
    return [train[row].line for row in order_of_plan(plan, train).rows_of_step(step)]


def test_the_rows_shown_are_those_of_the_first_steps(recipe_file: WriteRecipe) -> None:
    plan = plan_of(recipe_file(evaluation=0.25))
    found = preview_of_plan(plan, 6)
    assert lines_of(found) == [
        [line] for line in [*trained_lines(plan, 1), *trained_lines(plan, 2)[:2]]
    ]
    assert found.packs is None
    assert found.train == plan.data.train
    assert found.leakage is not None
    assert found.leakage.rows == 6


def test_no_row_is_shown_twice_and_none_is_fine(recipe_file: WriteRecipe) -> None:
    plan = plan_of(recipe_file())
    assert sorted(lines_of(preview_of_plan(plan, 100))) == [[line] for line in range(1, 25)]
    assert preview_of_plan(plan, 0).shown == ()


def test_a_pack_is_shown_as_the_documents_that_share_it(recipe_file: WriteRecipe) -> None:
    import torch

    training = {"batching": "packed", "max_length": 200, "batch_size": 1, "steps": 2}
    plan = plan_of(recipe_file(training=training))
    found = preview_of_plan(plan, 2)
    assert found.packs is not None
    assert found.packs.count == plan.schedule.units_per_epoch
    assert [sorted(lines) for lines in lines_of(found)] == [
        sorted(trained_lines(plan, step)) for step in (1, 2)
    ]
    train = planned_dataset(plan, planned_tokenizer(plan)).train
    for step, unit in enumerate(found.shown, 1):
        assert len(unit) > 1
        rows = [train[row].tokens for row in order_of_plan(plan, train).rows_of_step(step)]
        batch = collate_packed(rows, device=torch.device("cpu"))
        spans = [span for row in unit for span in row.spans]
        learnt = [span.supervised for span in spans for _ in range(span.tokens)]
        assert learnt == (batch.labels[0] != IGNORED).tolist()
        starts = (batch.positions == 0).sum() if batch.positions is not None else 0
        assert starts == len(unit)


@pytest.mark.parametrize("name", ["bert_texts", "bert_words", "t5"])
def test_every_task_shows_what_it_learns(tmp_path: Path, name: str) -> None:
    plan = plan_of(write_case(tmp_path, name))
    found = preview_of_plan(plan, 24)
    rows = {row.line: row for (row,) in found.shown}
    assert sorted(rows) == list(range(1, 25))
    assert found.inference is None
    if name == "bert_texts":
        assert [rows[line].labels for line in (1, 2)] == [("good",), ("bad",)]
        assert found.without_end is None
    elif name == "bert_words":
        tags = [span.label for span in rows[2].spans if span.supervised]
        assert tags == ["O", "B-NAME", "O"]
    else:
        assert rows[1].text == "repeat sunny</s>"
        assert "".join(span.text for span in rows[1].target) == "sunny</s>"
    assert found.leakage is not None
    assert found.leakage.exact.count == 8
