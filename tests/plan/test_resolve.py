"""Resolving is pure: it needs no file and no clock, and says the same each time."""

from __future__ import annotations

import builtins
import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_cli.plan.inputs import Facts
from lora_cli.plan.resolve import resolve_plan
from lora_cli.recipe.load import LoadedRecipe

Probed = Callable[..., tuple[LoadedRecipe, Facts]]


def test_resolving_touches_nothing(probed: Probed, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, facts = probed(evaluation=0.25)
    before = copy.deepcopy((loaded, facts))
    first = resolve_plan(loaded, facts)

    def touch(*arguments: Any, **_: Any) -> Any:
        raise AssertionError(f"touched {arguments}")

    for module, name in ((builtins, "open"), (os, "stat"), (os, "listdir"), (os, "getcwd")):
        monkeypatch.setattr(module, name, touch)
    second = resolve_plan(loaded, facts)
    monkeypatch.undo()
    assert second == first
    before_loaded, before_facts = before
    units, before_units = facts.units, before_facts.units
    assert units.tokens.tolist() == before_units.tokens.tolist()
    assert (units.packs, units.parts) == (before_units.packs, before_units.parts)
    assert (loaded, replace(facts, units=before_units)) == (before_loaded, before_facts)


def test_the_recipe_is_kept_with_its_flags(probed: Probed) -> None:
    loaded, facts = probed("llama", "seed=3", "adapter.rank=2")
    plan = resolve_plan(loaded, facts)
    assert plan.recipe_text == (
        f"{loaded.text}# loracli --set seed=3\n# loracli --set adapter.rank=2\n"
    )
    assert plan.seed == 3


def test_the_device_is_the_machine(probed: Probed) -> None:
    loaded, facts = probed()
    plan = resolve_plan(loaded, facts)
    machine = facts.machine
    device = plan.device
    assert (device.type, device.name) == (machine.device, machine.name)
    assert device.memory_bytes == machine.memory_bytes
    reasons = {d.field: (d.value, d.reason) for d in plan.decisions}
    assert reasons["device"] == (machine.device, machine.name)
    assert reasons["processes"] == ("1", "WORLD_SIZE, or 1")


def test_the_run_directory(probed: Probed, tmp_path: Path) -> None:
    plan = resolve_plan(*probed())
    assert plan.run_dir == str(tmp_path / "run")
    reasons = {d.field: d.reason for d in plan.decisions}
    assert reasons["output.dir"].startswith("recipe.yaml:")


def test_no_value_is_decided_twice(probed: Probed) -> None:
    fields = [d.field for d in resolve_plan(*probed(evaluation=0.25)).decisions]
    assert len(set(fields)) == len(fields)
