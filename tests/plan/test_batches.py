"""Batches in the plan: packs, how full they are, what an epoch takes of each source, the rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_cli.errors import PlanError
from lora_cli.plan import make
from lora_cli.plan.resolve import resolve_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import load_recipe
from tests.helpers.tiny_models import sum_rows, write_rows

Planned = Callable[..., RunPlan]
PACKED = "training.batching=packed"


@pytest.fixture
def mixed(recipe_file: Callable[..., Path], tmp_path: Path) -> Planned:
    """Return the plan of two sources, of 24 and of 6 rows."""

    def plan(*flags: str, weights: tuple[float, float] | None = None, **training: Any) -> RunPlan:
        write_rows(tmp_path / "few.jsonl", sum_rows(6))
        both = [{"path": "rows.jsonl"}, {"path": "few.jsonl"}]
        if weights:
            both = [{**each, "weight": w} for each, w in zip(both, weights, strict=True)]
        sections = {"dataset": both, "training": {"batch_size": 4, **training}}
        return make.make_plan(load_recipe(recipe_file(**sections), flags))

    return plan


def decision(plan: RunPlan, field: str) -> tuple[str, str]:
    found = next(d for d in plan.decisions if d.field == field)
    return found.value, found.reason


def test_packs_are_counted_and_so_are_their_steps(planned: Planned) -> None:
    plain, packed = planned(), planned("llama", PACKED)
    total, limit = plain.data.train.total, packed.data.max_length
    assert plain.schedule.units_per_epoch == 24
    packs = packed.schedule.units_per_epoch
    assert -(-total // limit) <= packs <= -(-total // limit) + 1
    assert packed.schedule.steps_per_epoch == -(-packs // 4)
    full = f"{total / packs / limit:.2%}"
    assert decision(packed, "training.packs") == (str(packs), f"of 24 rows, {full} full on average")
    assert decision(packed, "training.packs_per_step")[0] == "4"
    assert packed.schedule.tokens_per_step == round(total / packs * min(4, packs))
    assert plain.digest != packed.digest


def test_few_steps_of_many_packs_are_worth_a_warning(planned: Planned) -> None:
    def warnings(*flags: str) -> list[str]:
        return [each for each in planned("llama", *flags).warnings if "packs" in each]

    (warning,) = warnings(PACKED)
    assert "packs make 2 steps an epoch: a smaller training.batch_size" in warning
    assert warnings() == warnings(PACKED, "training.batch_size=1") == []


def test_grouping_by_length_changes_no_count(planned: Planned) -> None:
    grouped, plain = planned("llama", "training.batching=length_grouped"), planned()
    same = {"batching": "random"}
    assert grouped.schedule.model_copy(update=same) == plain.schedule


def test_an_epoch_takes_each_source_by_its_weight(mixed: Planned) -> None:
    plan = mixed(weights=(1, 1))
    assert plan.schedule.units_per_epoch == 30
    reasons = [decision(plan, f"dataset[{index}].rows_per_epoch") for index in range(2)]
    assert reasons == [
        ("15", "50.0% of an epoch: each 0.625 times, of 24 rows"),
        ("15", "50.0% of an epoch: each 2.5 times, of 6 rows"),
    ]
    assert [source.weight for source in plan.data.sources] == [1, 1]
    assert decision(plan, "dataset[1].weight") == ("1", "recipe.yaml:11")
    assert plan.digest != mixed(weights=(1, 2)).digest
    twice = mixed(weights=(2, 2))
    assert decision(twice, "dataset[0].rows_per_epoch") == reasons[0]


def test_an_epoch_takes_each_source_by_the_temperature(mixed: Planned) -> None:
    flat = mixed("training.sampling_temperature=2")
    assert [decision(flat, f"dataset[{i}].rows_per_epoch")[0] for i in (0, 1)] == ["20", "10"]
    as_they_are = mixed("training.sampling_temperature=1")
    counts = [decision(as_they_are, f"dataset[{i}].rows_per_epoch")[0] for i in (0, 1)]
    assert counts == ["24", "6"]
    fields = {d.field for d in mixed().decisions}
    assert not any(field.endswith("_per_epoch") for field in fields), "every row once"


def test_mixed_packs_are_counted_in_packs(mixed: Planned) -> None:
    plan = mixed(PACKED, weights=(1, 1))
    packs = [int(decision(plan, f"dataset[{i}].packs_per_epoch")[0]) for i in (0, 1)]
    assert sum(packs) == plan.schedule.units_per_epoch
    assert abs(packs[0] - packs[1]) <= 1


def test_a_source_that_evaluation_emptied_is_named(
    recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    write_rows(tmp_path / "one.jsonl", sum_rows(1))
    both = [{"path": "rows.jsonl", "weight": 1}, {"path": "one.jsonl", "weight": 1}]
    for seed in range(20):
        sections = {"dataset": both, "evaluation": {"split": 0.9}, "seed": seed}
        with pytest.raises(PlanError, match="no row is left to train on") as raised:
            make.make_plan(load_recipe(recipe_file(**sections)))
        (problem,) = raised.value.problems
        assert problem.message.endswith("`dataset[1]`")
        assert "evaluation.split" in problem.hint
        return
    pytest.fail("no seed drew the one row")


@pytest.mark.parametrize("variant", ["prompt_tuning", "prefix_tuning", "p_tuning"])
def test_vectors_in_front_of_a_pack_are_refused(planned: Planned, variant: str) -> None:
    with pytest.raises(PlanError) as raised:
        planned("llama", PACKED, adapter={"variant": variant})
    (problem,) = raised.value.problems
    assert problem.where.file.startswith("--set")
    message = f"{variant} puts its vectors in front of a row: of a pack, before the first document"
    assert problem.message == f"{message} alone"
    assert problem.hint == "set `training.batching: length_grouped`, which pads little"
    planned("llama", "training.batching=length_grouped", adapter={"variant": variant})


def test_an_architecture_that_leaks_is_refused(probed: Callable[..., Any]) -> None:
    loaded, facts = probed("llama", PACKED)
    leaky = replace(facts, base=replace(facts.base, packing_obstacle="it leaks"))
    with pytest.raises(PlanError, match="LlamaForCausalLM cannot train on packs: it leaks"):
        resolve_plan(loaded, leaky)
    resolve_plan(loaded, facts)
    loaded, facts = probed("llama")
    resolve_plan(loaded, replace(facts, base=replace(facts.base, packing_obstacle="it leaks")))
