"""The run directory before a run: whether one can be written there, and whether one is there."""

from __future__ import annotations

import os
from pathlib import Path

from lora_cli.errors import PlanError, Problem, Where
from lora_cli.recipe.load import LoadedRecipe

PLAN = "plan.json"
RESULT = "result.json"
"""There once a run is finished."""
PROBES = "probes.json"
"""The ends of some evaluation rows, as token ids: what a merged model is compared on."""
MOST_PROBES, PROBE_TOKENS = 8, 64
EARLIER = ".earlier"
"""Holds the run that a new one is to replace, until that one comes to something."""
MOVING = ".earlier-moving"
"""Holds a part of it on the way there or back; the rest is in its own place."""
_ELSEWHERE = "name another output.dir"


def run_folder(loaded: LoadedRecipe) -> Path:
    """Return the run directory, absolute.

    Raises:
        PlanError: no run can be written there, not even in place of an earlier one.
    """
    named = loaded.recipe.output.dir
    if named and "$" in named:
        message = f"`{named}` names an environment variable, which is not put in"
        raise PlanError(message, hint="write the path itself; `~` is the home folder")
    try:
        folder = Path.cwd() / (Path(named).expanduser() if named else f"runs/{loaded.path.stem}")
    except RuntimeError as error:  # a `~user` that does not exist
        raise PlanError(f"`{named}` is no folder: {error}", hint=_ELSEWHERE) from error
    check_run_folder(folder)
    return folder


def check_run_folder(folder: Path) -> None:
    """Raise if no run can be written in `folder`, not even in place of an earlier one.

    Raises:
        PlanError: something else is there, or nothing may be written there.
    """
    try:
        reason = _obstacle(folder)
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise PlanError(f"{folder} cannot be a run directory: {reason}", hint=_ELSEWHERE)


def earlier_run(folder: Path) -> Problem | None:
    """Return what is to be said of a run in `folder`: it is never replaced unasked."""
    if not _holds(folder, PLAN):
        return None
    if _holds(folder, RESULT):
        hint = f"--overwrite replaces it; or {_ELSEWHERE}"
        return Problem(Where(str(folder)), "holds a finished run already", hint)
    hint = f"--resume goes on with it, --overwrite replaces it; or {_ELSEWHERE}"
    return Problem(Where(str(folder)), "holds a run already", hint)


def _holds(folder: Path, name: str) -> bool:
    """Return whether a file of a run is there, in its own place or set aside."""
    return any((place / name).is_file() for place in (folder, folder / EARLIER, folder / MOVING))


def _obstacle(folder: Path) -> str:
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        return f"{nearest} is a file"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"nothing may be written into {nearest}"
    if nearest == folder and any(folder.iterdir()) and not earlier_run(folder):
        return "it is not empty, and holds no run of loracli"
    return ""
