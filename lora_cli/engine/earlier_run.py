"""The run that a new one is to replace: set aside, and put back if nothing comes of the new one.

It lies in a hidden folder of the run directory, so that the lock and the files of others stay where
they are. All is done by renaming: a process may die between any two of them, nothing is lost, and
the next one settles what was left. This module does not know which files are a run's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from lora_cli.plan.run_folder import EARLIER, MOVING

GONE = ".earlier-gone"
"""Takes the place of EARLIER while it is being deleted."""


def set_aside(folder: Path, names: Iterable[str]) -> None:
    """Move those of `names` that are in `folder` out of the new run's way."""
    there = [name for name in names if os.path.lexists(folder / name)]
    if not there:
        return
    (folder / MOVING).mkdir()
    for name in there:
        (folder / name).rename(folder / MOVING / name)
    (folder / MOVING).rename(folder / EARLIER)


def put_back(folder: Path, names: Iterable[str]) -> bool:
    """Put the earlier run in the place of the new one; return whether there was one.

    EARLIER is there only while all that lies outside of it is the new run's; what lies outside of
    MOVING is the earlier run's too.
    """
    if (folder / EARLIER).is_dir():
        for name in names:
            _remove(folder / name)
        (folder / EARLIER).rename(folder / MOVING)
    if not (folder / MOVING).is_dir():
        return False
    for path in (folder / MOVING).iterdir():
        path.rename(folder / path.name)
    (folder / MOVING).rmdir()
    return True


def drop_earlier_run(folder: Path) -> None:
    """Delete the earlier run, if there is one: the new one has something of the same worth."""
    shutil.rmtree(folder / GONE, ignore_errors=True)
    if (folder / EARLIER).is_dir():
        (folder / EARLIER).rename(folder / GONE)
        shutil.rmtree(folder / GONE, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
