"""The base that a finished folder's files name, as others can have it: its hub id, or words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lora_cli.facts.model_source import PACKAGE_PREFIX
from lora_cli.merge.adapter_config import CONFIG as ADAPTER_CONFIG
from lora_cli.merge.adapter_config import read_json
from lora_cli.merge.base import ORIGIN, made_from, read_origin
from lora_cli.merge.output import REPORT

_NAMED_BY = (
    (ORIGIN, "base"),
    (ADAPTER_CONFIG, "base_model_name_or_path"),
    (REPORT, "base_made_from"),
    (REPORT, "base"),
)
"""A merged model is one of the model that the run's own base was made of: it needs neither."""
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""Those of the hub's first models have no owner: `gpt2`."""
_IN_HUB_CACHE = re.compile(r"models--(?:([\w.-]+?)--)?([\w.-]+)/snapshots/")


@dataclass(frozen=True, slots=True)
class NamedBase:
    """A base by the name that it was trained by; without a name, nothing is known of it."""

    name: str = ""
    made_from: str = ""
    """What a run quantized for a base of its own, which is the only one that its adapter fits."""

    @property
    def hub_id(self) -> str:
        """Return its name on the hub, also of a copy in the hub's cache; "" if it has none."""
        if cached := _IN_HUB_CACHE.search(self.name):
            return "/".join(filter(None, cached.groups()))
        is_id = _HUB_ID.fullmatch(self.name) and not Path(self.name).exists()
        return self.name if is_id else ""

    @property
    def in_package(self) -> bool:
        """Return whether it lies inside a Python package."""
        return self.name.startswith(PACKAGE_PREFIX)

    @property
    def is_path(self) -> bool:
        """Return whether it is a place on this machine, which others do not have."""
        return bool(self.name) and not self.hub_id and not self.in_package

    @property
    def told(self) -> str:
        """Return a name for others: a path tells them nothing but its end."""
        return self.hub_id or (Path(self.name).name if self.is_path else self.name)

    @property
    def whereabouts(self) -> str:
        """Return in words where a base is that has no name on the hub."""
        if self.made_from:
            source = NamedBase(self.made_from).told
            return (
                f"The base is the run's own folder `{self.told}`, which is not here: `{source}` as "
                "it was quantized there, a part of its weights taken out for the adapter's start. "
                f"On any other base, `{source}` too, the adapter is another model."
            )
        if not self.name:
            return "The files do not name the base: put in where you have it."
        if self.in_package:
            package, _, rest = self.name.removeprefix(PACKAGE_PREFIX).partition("/")
            return (
                f"The base is `{rest}` in the Python package `{package}`: loracli finds it as "
                f"`{self.name}`; for other libraries, put in where you have it."
            )
        machine = "lay on the machine of the training"
        return f"The base, `{self.told}`, {machine}: put in where you have it."


def base_of(folder: Path) -> NamedBase:
    """Return the base that a folder's files name: a run's name for it before a path.

    Raises:
        MergeError: a file that would name it cannot be read.
    """
    for file, key in _NAMED_BY:
        name = read_json(folder / file).get(key) if (folder / file).is_file() else None
        if isinstance(name, str) and name:
            return NamedBase(name, made_from(read_origin(folder)))
    return NamedBase()


def paths_told(folder: Path) -> list[str]:
    """Return which of a folder's files name the base by a place on this machine, and the place."""
    told = []
    for file, key in _NAMED_BY[:2]:
        name = read_json(folder / file).get(key) if (folder / file).is_file() else None
        if isinstance(name, str) and NamedBase(name).is_path:
            told.append(f"{file} names the base by a path of this machine: {name}")
    return told
