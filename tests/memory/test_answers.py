"""Estimates for one device, for all, and as plain values."""

from __future__ import annotations

import json
from collections.abc import Callable

from lora_cli.memory.answers import on_each, on_one, to_json
from lora_cli.memory.devices import card_of, find_device, known_devices
from lora_cli.memory.fit import fit
from lora_cli.memory.subject import Subject
from lora_cli.plan.run_plan import RunPlan

Bare = Callable[..., Subject]


def test_devices_of_one_kind_share_a_simulation(bare: Bare, simulated: list[RunPlan]) -> None:
    found = on_each(bare("training.batch_size=1"), known_devices())
    assert len(found.on) == len(known_devices())
    assert len(simulated) == 3  # GPUs with and without bfloat16, and processors
    by_name = {each.device.name: each.estimate for each in found.on}
    four, eight = by_name["A100 40GB"], by_name["A100 80GB"]
    assert four is not None
    assert eight is not None
    assert four.needed == eight.needed
    assert (four.capacity, four.device) == (find_device("A100 40GB").memory_bytes, "A100 40GB")


def test_a_device_that_a_recipe_is_not_for_says_why(bare: Bare, simulated: list[RunPlan]) -> None:
    subject = bare("model.dtype=bfloat16")
    found = on_each(subject, [find_device("T4"), find_device("L4")])
    refused, planned = found.on
    assert refused.estimate is None
    assert "has no bfloat16" in refused.refusal
    assert planned.estimate is not None


def test_levers_are_tried_where_it_may_not_fit_or_they_are_asked_for(
    bare: Bare, simulated: list[RunPlan]
) -> None:
    subject = bare("training.batch_size=2")
    assert on_one(subject).effects is None
    assert on_one(subject, levers=True).effects
    small = subject.on(card_of(1 << 30))
    assert on_one(small).effects
    assert on_one(small, levers=False).effects is None


def test_all_answers_are_plain_values(bare: Bare, simulated: list[RunPlan]) -> None:
    subject = bare("training.batch_size=2", "training.max_length=256")
    one = json.loads(json.dumps(to_json(on_one(subject, levers=True))))
    assert one["verdict"] == "fits"
    assert one["needed"]["low"] < one["needed"]["high"] < one["capacity"]
    parts = sum(one["categories"].values())
    assert parts == one["allocated"]
    assert parts + one["workspace"] + one["allocator_overhead"] == one["minimum"]
    assert {"name", "settings", "cost", "saved", "verdict", "needed"} <= one["levers"][0].keys()
    fitted = json.loads(json.dumps(to_json(fit(subject, 4 << 30))))
    assert fitted["batch_size"]["settings"][0].startswith("training.batch_size=")
    assert fitted["batch_size"]["next_step_up"]["verdict"] != "fits"
    assert fitted["levers"]["settings"] == []
    every = json.loads(json.dumps(to_json(on_each(subject, known_devices()))))
    assert {"name", "memory_gib", "verdict", "needed"} <= every["devices"][0].keys()
