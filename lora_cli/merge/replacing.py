"""Where a folder may be written: a free place, or over an earlier one; never over what is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lora_cli.errors import MergeError

HINT = "name another --output"


def check_place(output: Path, mark: str, read: Iterable[Path], *, overwrite: bool) -> None:
    """Check that `output` is free, or may be replaced.

    `mark` is a file that every folder of its kind holds; `read` are the folders, runs and files
    that it is made of.

    Raises:
        MergeError: something is there that must stay.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    place = output.resolve()
    parts = [part.resolve() for each in read for part in (each, each / "adapter")]
    if any(part.is_relative_to(place) for part in parts):
        raise MergeError("holds what is read: it is not overwritten", str(output), HINT)
    if not overwrite:
        raise MergeError("exists already", str(output), f"{HINT}, or replace it with --overwrite")
    if not (output / mark).is_file():
        raise MergeError(f"has no {mark}: it is not overwritten", str(output), HINT)
