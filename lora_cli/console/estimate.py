"""`loracli estimate-memory`: what is asked for, estimated and printed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.memory.devices import card_of, find_device, known_devices, read_size
from lora_cli.recipe.load import LoadedRecipe, load_recipe

if TYPE_CHECKING:
    from lora_cli.memory.answers import EachDevice, OneDevice
    from lora_cli.memory.fit import Fit
    from lora_cli.memory.subject import Subject

OPTIONS = {
    "model": "--model",
    "adapter.variant": "--variant",
    "adapter.rank": "--rank",
    "quantization": "--quantization",
    "training.batch_size": "--batch-size",
    "training.max_length": "--max-length",
}
"""The options that stand for a value where there is no recipe."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    recipe: Path | None
    settings: dict[str, str | int]
    """By the recipe's keys, where there is no recipe."""
    overrides: tuple[str, ...]
    device: str | None
    fit: str | None
    all_devices: bool
    levers: bool | None
    as_json: bool


def make_and_show_estimate(asked: Asked) -> None:
    """Estimate what is asked for and print it: as JSON for a program, else for a person.

    Raises:
        LoraCliError: no recipe, no device, no size or no plan is what was asked for.
    """
    capacity = None if asked.fit is None else read_size(asked.fit, "--fit")
    machine = None if asked.device is None else find_device(asked.device).machine()
    loaded = None if asked.recipe is None else load_recipe(asked.recipe, asked.overrides)
    console = Console(highlight=False)
    quiet_libraries()
    from lora_cli.console.estimate_text import show
    from lora_cli.memory.answers import to_json

    with console.status("estimating …"):
        subject = _subject(asked, loaded)
        quiet_bars()
        if machine is not None:
            subject = subject.on(machine)
        found = _found(asked, subject, capacity)
    if asked.as_json:
        sys.stdout.write(json.dumps(to_json(found), indent=2, ensure_ascii=False) + "\n")
    else:
        show(found, console)


def _subject(asked: Asked, loaded: LoadedRecipe | None) -> Subject:
    from lora_cli.memory.subject import subject_of_recipe, subject_of_settings

    if loaded is not None:
        return subject_of_recipe(loaded)
    typed = {f"{key}={value}": f"{OPTIONS[key]} {value}" for key, value in asked.settings.items()}
    # what follows from the default is the base's to answer for
    said = "adapter.variant" in asked.settings or any(
        each.startswith(("adapter=", "adapter.variant=")) for each in asked.overrides
    )
    default = {} if said else {"adapter.variant=lora": f"--model {asked.settings.get('model')}"}
    options = {**default, **typed}
    return subject_of_settings([*default, *typed, *asked.overrides], options)


def _found(asked: Asked, subject: Subject, capacity: int | None) -> OneDevice | EachDevice | Fit:
    from lora_cli.memory.answers import on_each, on_one

    if asked.all_devices:
        return on_each(subject, known_devices())
    if capacity is None:
        return on_one(subject, levers=asked.levers)
    from lora_cli.memory.fit import fit

    if subject.facts.machine.device != "cuda":
        subject = subject.on(card_of(capacity))
    return fit(subject, capacity)
