"""What can be asked of an estimate: one device with its levers, every device, or what would fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from lora_cli.errors import LoraCliError
from lora_cli.memory.devices import Device
from lora_cli.memory.estimate import Estimate, estimate, verdict_of
from lora_cli.memory.fit import Answer, Fit
from lora_cli.memory.levers import Effect, effects
from lora_cli.memory.subject import Subject


@dataclass(frozen=True)
class OneDevice:
    """An estimate, and what each lever would save: None, where nobody asked."""

    estimate: Estimate
    effects: list[Effect] | None


@dataclass(frozen=True)
class OnDevice:
    """A device of the table: the estimate for it, or why none can be made."""

    device: Device
    estimate: Estimate | None
    refusal: str = ""


@dataclass(frozen=True)
class EachDevice:
    """The devices of a table."""

    on: tuple[OnDevice, ...]


def on_one(subject: Subject, *, levers: bool | None = None) -> OneDevice:
    """Return the estimate for the subject's own machine, and its levers: None, if it may not fit.

    Each lever is a simulation of its own.

    Raises:
        PlanError: the recipe cannot be planned.
    """
    found = estimate(subject)
    wanted = found.verdict != "fits" if levers is None else levers
    return OneDevice(found, effects(subject, found) if wanted else None)


def on_each(subject: Subject, devices: Iterable[Device]) -> EachDevice:
    """Return the estimates for several devices; those of one kind share the simulation."""
    made: dict[tuple[str, bool], Estimate | str] = {}
    answers = []
    for device in devices:
        kind = device.trains_on, device.bfloat16
        if kind not in made:
            made[kind] = _estimated(subject.on(device.machine()))
        found = made[kind]
        if isinstance(found, str):
            answers.append(OnDevice(device, None, found))
        else:
            answers.append(OnDevice(device, _moved(found, device)))
    return EachDevice(tuple(answers))


def _estimated(subject: Subject) -> Estimate | str:
    """Return the estimate, or the first reason why the recipe cannot be planned there."""
    try:
        return estimate(subject)
    except LoraCliError as error:
        return error.problems[0].message


def _moved(found: Estimate, device: Device) -> Estimate:
    verdict = verdict_of(found.needed, device.memory_bytes)
    return replace(found, device=device.name, capacity=device.memory_bytes, verdict=verdict)


def to_json(found: OneDevice | EachDevice | Fit) -> dict[str, Any]:
    """Return an answer as plain values, all sizes in bytes."""
    if isinstance(found, OneDevice):
        tried = None if found.effects is None else [_effect(each) for each in found.effects]
        return {**_whole(found.estimate), "levers": tried}
    if isinstance(found, EachDevice):
        return {"devices": [_device(each) for each in found.on]}
    levers = None
    if found.levers is not None and found.with_levers is not None:
        levers = {"settings": list(found.settings), **_short(found.with_levers)}
    return {
        "capacity": found.capacity,
        "as_it_is": _whole(found.as_it_is),
        "batch_size": _answer(found.batch),
        "max_length": _answer(found.length),
        "levers": levers,
    }


def _whole(found: Estimate) -> dict[str, Any]:
    return {**asdict(found), "allocator_overhead": found.overhead}


def _effect(effect: Effect) -> dict[str, Any]:
    return {**asdict(effect.lever), "saved": effect.saved, **_short(effect.estimate)}


def _device(each: OnDevice) -> dict[str, Any]:
    answer = {"refusal": each.refusal} if each.estimate is None else _short(each.estimate)
    return {**each.device.model_dump(), **answer}


def _answer(found: Answer | None) -> dict[str, Any] | None:
    if found is None:
        return None
    beyond = None
    if found.beyond is not None:
        beyond = {"settings": list(found.beyond_settings), **_short(found.beyond)}
    return {
        "value": found.value,
        "settings": list(found.settings),
        "note": found.note,
        **_short(found.estimate),
        "next_step_up": beyond,
    }


def _short(found: Estimate) -> dict[str, Any]:
    return {"verdict": found.verdict, "needed": asdict(found.needed), "method": found.method}
