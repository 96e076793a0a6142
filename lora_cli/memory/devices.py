"""The devices that a run can be estimated for: a table in `configs/`, and sizes such as 24GB.

This module does not know what is on this machine (`facts.machine`).
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lora_cli.errors import EstimateError, Where
from lora_cli.facts.machine import MachineFacts

GIB = 1 << 30
UNITS = {"mb": 10**6, "gb": 10**9, "tb": 10**12, "mib": 1 << 20, "gib": GIB, "tib": 1 << 40}
PACKAGED = Path(__file__).parent / "devices.yaml"
"""Where an installed loracli has the table: the wheel takes it along from `configs/`."""
IN_REPOSITORY = Path(__file__).parent.parent.parent / "configs" / "devices.yaml"


class Device(BaseModel):
    """One line of the table."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    memory_gib: Annotated[float, Field(gt=0)]
    bfloat16: bool
    trains_on: Literal["cuda", "cpu"]

    @property
    def model(self) -> str:
        """Return the name without the memory at its end."""
        return self.name.rpartition(" ")[0]

    @property
    def memory_bytes(self) -> int:
        """Return what torch can use."""
        return int(self.memory_gib * GIB)

    def machine(self) -> MachineFacts:
        """Return the machine that a plan is made for, with this device."""
        return MachineFacts(
            device=self.trains_on,
            name=self.name,
            fast_bfloat16=self.bfloat16,
            memory_bytes=self.memory_bytes,
            processes=1,
        )


def read_devices(path: Path) -> tuple[Device, ...]:
    """Return the devices of a table.

    Raises:
        EstimateError: it is no such table; the problem names the line's number in the list.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        devices = TypeAdapter(tuple[Device, ...]).validate_python(content, strict=False)
    except (OSError, yaml.YAMLError) as error:
        raise EstimateError(f"is no table of devices: {error}", str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise EstimateError(
            first["msg"], Where(str(path), key=key), "as the other lines"
        ) from error
    names = [device.name for device in devices]
    if twice := {name for name in names if names.count(name) > 1}:
        raise EstimateError(
            f"`{min(twice)}` stands there twice", str(path), "name each device once"
        )
    return devices


@cache
def known_devices() -> tuple[Device, ...]:
    """Return the devices of loracli's own table."""
    return read_devices(PACKAGED if PACKAGED.is_file() else IN_REPOSITORY)


def find_device(text: str) -> Device:
    """Return the device that `text` names: its name, that without its memory, or a part of it.

    Raises:
        EstimateError: there is none, or there are several.
    """
    devices = known_devices()
    wanted = _plain(text)
    found = [each for each in devices if wanted in (_plain(each.name), _plain(each.model))]
    found = found or [each for each in devices if wanted and wanted in _plain(each.name)]
    where = Where(f"--device {text}")
    if len(found) == 1:
        return found[0]
    if found:
        names = " or ".join(f"`{each.name}`" for each in found)
        raise EstimateError(f"`{text}` is several devices", where, f"name one: {names}")
    plain = {_plain(each.name): each.name for each in devices}
    near = difflib.get_close_matches(wanted, plain, n=2, cutoff=0.5)
    meant = f"did you mean {' or '.join(f'`{plain[each]}`' for each in near)}? " if near else ""
    known = ", ".join(each.name for each in devices)
    raise EstimateError(f"no device `{text}` is known", where, f"{meant}known: {known}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_size(text: str, option: str) -> int:
    """Return a size such as `24GB` or `23.6GiB` in bytes: GB are 10⁹, GiB 2³⁰.

    Raises:
        EstimateError: it is none.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([mgt]i?b)", text.strip(), re.IGNORECASE)
    size = round(float(found[1]) * UNITS[found[2].lower()]) if found else 0
    if size < 1:
        message = f"`{text}` is no size"
        raise EstimateError(message, f"{option} {text}", "write a number and a unit: 24GB, 23.6GiB")
    return size


def card_of(capacity: int) -> MachineFacts:
    """Return a GPU of so many bytes that has bfloat16, as all have since 2020."""
    return MachineFacts("cuda", f"a GPU of {capacity / 1e9:g} GB", True, capacity, 1)
