"""Rows at random, grouped by length or packed: the same losses, the same run after a stop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_cli.engine.isolation import check_isolation
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.engine.run import run
from lora_cli.errors import InterruptedRunError, RunError
from lora_cli.events import StepDone
from lora_cli.model.packed_attention import attend_by_document
from tests.helpers.packs import tiny
from tests.helpers.runs import losses_of, metrics_of, of_kind, plan_of, stop_at, train, write_recipe

TinyModel = Callable[[str], Path]
CPU = torch.device("cpu")
TOLERANCE = 1e-5
"""As for a plain loop: float32 sums in another order, over a few steps."""
MIXED: dict[str, Any] = {
    "dataset": [
        {"path": "rows.jsonl", "weight": 3},
        {"path": "rows.jsonl", "weight": 1, "format": "messages"},
    ],
    "training": {"steps": 6, "batch_size": 4, "batching": "packed", "max_length": 150},
    "adapter": {"dropout": 0.1},
}


@pytest.mark.parametrize(
    ("architecture", "checkpointing"), [("llama", False), ("llama", True), ("mixtral", False)]
)
def test_the_same_rows_have_the_same_losses_however_they_are_batched(
    tmp_path: Path, tiny_model: TinyModel, architecture: str, checkpointing: bool
) -> None:
    """A step is all 24 rows, so that nothing but the batches differs: padded, grouped, packed,
    and packs over several micro batches, which hold unequal numbers of supervised tokens."""
    losses: dict[str, list[float]] = {}
    for name, batching, batch, accumulation in (
        ("padded", "random", 24, 1),
        ("grouped", "length_grouped", 6, 4),
        ("packed", "packed", 32, 1),
        ("packs in turn", "packed", 4, 8),
    ):
        sizes = {"batch_size": batch, "gradient_accumulation_steps": accumulation}
        training = {**sizes, "steps": 4, "batching": batching, "max_length": 256}
        training["gradient_checkpointing"] = checkpointing and batching == "packed"
        (tmp_path / name).mkdir()
        recipe = write_recipe(tmp_path / name, tiny_model(architecture), training=training)
        plan = plan_of(recipe)
        assert plan.schedule.steps_per_epoch == 1
        result, events = train(plan)
        losses[name] = losses_of(result.run_dir)
        tokens = [event.tokens for event in of_kind(events, StepDone)]
        assert tokens == [plan.schedule.tokens_per_step] * 4
    assert losses["padded"][-1] < losses["padded"][0] - 0.01
    for found in losses.values():
        assert found == pytest.approx(losses["padded"], abs=TOLERANCE)


def test_a_stopped_run_of_mixed_packs_goes_on_where_it_was(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    """Packs of two weighted sources; an epoch is over after a few steps."""
    runs = {}
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        runs[name] = plan_of(write_recipe(tmp_path / name, tiny_model("llama"), **MIXED))
    whole, stopped = runs["whole"], runs["stopped"]
    assert whole.digest == stopped.digest
    assert whole.schedule.steps_per_epoch == 5
    train(whole)
    with pytest.raises(InterruptedRunError):
        run(stopped, stop_at(3, signal.SIGINT))
    train(stopped, resume=True)
    untimed = {"seconds": 0, "memory_bytes": 0}
    one, other = ([line | untimed for line in metrics_of(each.run_dir)] for each in runs.values())
    assert one == other
    files = [Path(each.run_dir) / "adapter/adapter_model.safetensors" for each in runs.values()]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_plan_counts_the_tokens_that_its_run_reads(tmp_path: Path, tiny_model: TinyModel) -> None:
    training = {"batch_size": 3, "batching": "packed"}
    recipe = write_recipe(tmp_path, tiny_model("llama"), training={**training, "max_length": 128})
    plan = plan_of(recipe, "training.steps=5")
    result, events = train(plan)
    steps = [event for event in of_kind(events, StepDone) if event.epoch <= 1]
    assert len(steps) == plan.schedule.steps_per_epoch
    rows = planned_dataset(plan, planned_tokenizer(plan)).train
    assert sum(event.tokens for event in steps) == int(rows.lengths.sum())
    assert sum(event.supervised_tokens for event in steps) == int(rows.supervised.sum())
    assert result.steps == 5


def test_a_model_that_leaks_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers forgets to tell the documents of GPT-OSS and OPT apart."""
    for name in ("gpt_oss", "opt"):
        leaking = tiny(name, "eager")
        with pytest.raises(RunError, match="documents of a pack read each other") as raised:
            check_isolation(leaking, dtype="float32", device=CPU)
        assert "length_grouped" in raised.value.problems[0].hint
        with pytest.raises(RunError):
            check_isolation(leaking, dtype="bfloat16", device=CPU)
        mended = tiny(name, "eager")
        attend_by_document(mended, "eager")
        check_isolation(mended, dtype="float32", device=CPU)
        check_isolation(mended.to(torch.bfloat16), dtype="bfloat16", device=CPU)
