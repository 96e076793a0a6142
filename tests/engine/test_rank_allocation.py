"""A run that shares ranks out: what it tells, draws, keeps as best, and goes on from."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lora_cli.engine.artifacts import write_rank_curve
from lora_cli.engine.evaluate import evaluate
from lora_cli.engine.prepare import planned_dataset, planned_tokenizer
from lora_cli.engine.runtime import Runtime
from lora_cli.events import Event, RanksAllocated
from lora_cli.plan.run_plan import RunPlan
from lora_cli.tasks.causal_lm import CausalLm
from lora_cli.tasks.task import Measured
from tests.engine.conftest import Finished
from tests.helpers.runs import (
    PLAIN_PEFT,
    losses_of,
    metrics_of,
    of_kind,
    plan_of,
    train,
    write_recipe,
)

TinyModel = Callable[[str], Path]
SECTIONS: dict[str, Any] = {
    "adapter": {"variant": "adalora", "rank": 2},
    "training": {"steps": 12, "learning_rate": 0.1, "save_steps": 2, "keep_checkpoints": 9},
    "evaluation": {"split": 0.25, "every_steps": 4},
}


def planned(folder: Path, base: Path, **changed: Any) -> RunPlan:
    both = {name: {**section, **changed.get(name, {})} for name, section in SECTIONS.items()}
    return plan_of(write_recipe(folder, base, **both))


@pytest.fixture(scope="module")
def allocated(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel
) -> tuple[RunPlan, list[Event]]:
    plan = planned(tmp_path_factory.mktemp("allocated"), tiny_model("llama"))
    return plan, train(plan)[1]


def test_each_allocation_is_told_and_written(allocated: tuple[RunPlan, list[Event]]) -> None:
    plan, events = allocated
    told = of_kind(events, RanksAllocated)
    modules = plan.adapter.modules
    assert told[0] == RanksAllocated(0, 3 * len(modules), dict.fromkeys(modules, 3))
    assert told[-1].total == 2 * len(modules)
    for earlier, later in itertools.pairwise(told):
        assert 1 < later.step <= 6, "allocation_start and allocation_end"
        assert earlier.step < later.step
        assert earlier.by_module != later.by_module
        assert later.total == sum(later.by_module.values())
        assert set(later.by_module) == set(modules)
    lines = metrics_of(plan.run_dir, "ranks")
    assert [
        RanksAllocated(line["step"], line["total"], line["by_module"]) for line in lines
    ] == told


def test_the_ranks_are_drawn(
    allocated: tuple[RunPlan, list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    plan, events = allocated
    drawn: list[Any] = []
    monkeypatch.setattr(Axes, "step", lambda _self, *values, **_: drawn.extend(values))
    write_rank_curve(Path(plan.run_dir) / "metrics.jsonl", tmp_path / "ranks.png")
    told = of_kind(events, RanksAllocated)
    assert drawn[0] == [event.step for event in told]
    assert drawn[1] == [event.total / len(plan.adapter.modules) for event in told]
    picture = Path(plan.run_dir) / "ranks.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (Path(plan.run_dir) / "report.html").read_text("utf-8").count("<img") == 2


def test_a_run_that_shares_nothing_out_tells_and_draws_nothing(finished: Finished) -> None:
    assert of_kind(finished.events, RanksAllocated) == []
    assert metrics_of(finished.folder, "ranks") == []
    assert not (finished.folder / "ranks.png").exists()


@PLAIN_PEFT
def test_the_loss_that_is_told_is_the_loss_alone(
    allocated: tuple[RunPlan, list[Event]], tmp_path: Path, tiny_model: TinyModel
) -> None:
    """The orthogonality term moves the weights and is in no figure."""
    plan, _ = allocated
    told = losses_of(plan.run_dir)
    without = planned(tmp_path, tiny_model("llama"), adapter={"orthogonality_weight": 0.0})
    train(without)
    assert losses_of(without.run_dir)[0] == told[0]
    assert losses_of(without.run_dir)[-1] != told[-1]
    result = json.loads((Path(plan.run_dir) / "result.json").read_text("utf-8"))
    base = AutoModelForCausalLM.from_pretrained(plan.model.folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, Path(plan.run_dir) / "adapter")
    rows = planned_dataset(plan, planned_tokenizer(plan)).evaluation
    runtime = Runtime(device="cpu", processes=1)
    loss, _ = evaluate(CausalLm(), model, rows, runtime, batch_size=4, padding_id=0)
    # float32 sums over some 100 tokens, in another order
    assert result["best_evaluation_loss"] == pytest.approx(loss, abs=1e-5)


def test_the_best_evaluation_once_all_ranks_are_taken_away_is_saved(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = iter([1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(
        "lora_cli.engine.loop.evaluate", lambda *_, **__: (next(coming), Measured({}))
    )
    plan = planned(tmp_path, tiny_model("llama"), evaluation={"every_steps": 3})
    result, events = train(plan)
    assert result.best_step == 6, "before that there are more ranks than were asked for"
    then = [event for event in of_kind(events, RanksAllocated) if event.step <= 6][-1]
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    kept = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): len(tensor)
        for name, tensor in saved.items()
        if ".lora_A." in name
    }
    assert kept == {name: max(1, rank) for name, rank in then.by_module.items()}


def test_accumulated_batches_share_the_ranks_out_alike(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    told = []
    for name, size, count in (("whole", 4, 1), ("split", 2, 2)):
        (tmp_path / name).mkdir()
        sizes = {"batch_size": size, "gradient_accumulation_steps": count}
        plan = planned(tmp_path / name, tiny_model("llama"), training=sizes)
        train(plan)
        told.append(losses_of(plan.run_dir))
        assert metrics_of(plan.run_dir, "ranks")[-1]["total"] == 2 * len(plan.adapter.modules)
    # sums in another order, which twelve steps at a high rate make larger
    assert told[1] == pytest.approx(told[0], abs=1e-3)


def test_a_run_too_short_for_it_is_refused(tmp_path: Path, tiny_model: TinyModel) -> None:
    from lora_cli.errors import PlanError

    with pytest.raises(PlanError) as caught:
        planned(tmp_path, tiny_model("llama"), training={"steps": 3})
    (problem,) = caught.value.problems
    assert problem.where.key == "adapter.allocation_end"
    assert problem.message == (
        "ranks would be taken away after step 0 and up to step 1 of 3, "
        "which leaves no step to do it in"
    )
