"""The run directory: who may write there, and what lies where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_cli.engine.checkpoint import newest_checkpoint
from lora_cli.engine.earlier_run import drop_earlier_run, put_back, set_aside
from lora_cli.errors import PlanError
from lora_cli.events import Notice, Report, unheard
from lora_cli.files import locked, remove_leftovers, write_text
from lora_cli.plan.run_folder import EARLIER, PLAN, PROBES, RESULT, check_run_folder, earlier_run
from lora_cli.plan.run_plan import RunPlan, content_of
from lora_cli.recipe.fields import all_keys

RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
ADAPTER = "adapter"
BASE = "base"
"""The quantized base, where it is one that nobody else has."""
CHECKPOINTS = "checkpoints"
ANSWERS = "answers.jsonl"
CURVE = "loss.png"
RANKS = "ranks.png"
CARD = "README.md"
REPORT = "report.html"
PLACES = {"model.name", "dataset.path", "evaluation.path", "output.dir"}
OURS = (
    *(PLAN, RECIPE, METRICS, ADAPTER, BASE, CHECKPOINTS),
    *(ANSWERS, PROBES, CURVE, RANKS, CARD, REPORT, RESULT),
)


def check_run_directory(plan: RunPlan, *, resume: bool, overwrite: bool) -> None:
    """Raise if the plan may not be carried out in its run directory; change nothing there.

    Raises:
        PlanError: the directory is taken, or holds no run that can be resumed.
    """
    folder = Path(plan.run_dir)
    if resume and overwrite:
        message = "--resume goes on with a run, --overwrite begins it again: which of the two?"
        raise PlanError(message, str(folder), "leave one of them out")
    if resume:
        _check_resumable(folder, plan)
        return
    check_run_folder(folder)
    if not overwrite and (problem := earlier_run(folder)):
        raise PlanError.from_problems([problem])


@contextmanager
def run_directory_held(
    plan: RunPlan, report: Report = unheard, *, resume: bool, overwrite: bool
) -> Iterator[None]:
    """Hold the run directory for this process alone; one that stays empty goes again.

    A run that was set aside for the new one is there again if that one ends, or a process before
    this one died, without a checkpoint.

    Raises:
        PlanError: the directory is taken, holds no run that can be resumed, or is being written by
            another process.
    """
    folder = Path(plan.run_dir)
    check_run_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        with locked(folder) as held:
            if not held:
                message = "another process is training into it"
                raise PlanError(message, str(folder), "wait for it, or name another output.dir")
            _settle_earlier(folder, report)
            check_run_directory(plan, resume=resume, overwrite=overwrite)
            try:
                yield
            finally:
                _settle_earlier(folder, report)
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


def _settle_earlier(folder: Path, report: Report) -> None:
    """Drop the run that was set aside if the new one can be resumed; else put it back."""
    aside = (folder / EARLIER).is_dir()
    if aside and newest_checkpoint(folder / CHECKPOINTS)[0] is not None:
        drop_earlier_run(folder)
    elif put_back(folder, OURS):
        report(Notice(f"the earlier run is in its place again: {folder}"))


def _unwritable(folder: Path, error: OSError) -> PlanError:
    message = f"cannot be written: {error.strerror}"
    return PlanError(message, str(folder), "name another output.dir")


def begin_run(plan: RunPlan) -> None:
    """Write plan and recipe into the run directory; an earlier run is set aside for it.

    Raises:
        PlanError: nothing can be written there.
    """
    folder = Path(plan.run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        set_aside(folder, OURS)
        remove_leftovers(folder)
        write_text(folder / RECIPE, plan.recipe_text)
        write_text(folder / PLAN, plan.to_json())
    except OSError as error:
        raise _unwritable(folder, error) from error


def _check_resumable(folder: Path, plan: RunPlan) -> None:
    try:
        earlier = RunPlan.from_json((folder / PLAN).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise PlanError("holds no run to resume", str(folder), "leave --resume out") from None
    except ValueError as error:
        reason = str(error).split("\n")[0]
        hint = "begin again with --overwrite"
        raise PlanError(f"cannot be read: {reason}", str(folder / PLAN), hint) from error
    if earlier.digest != plan.digest:
        in_plan = ", ".join(_differences(content_of(earlier), content_of(plan)))
        words = [f"the rows of {name}" for name in _changed_files(earlier, plan)]
        changed = ", ".join([*words, *_changed_keys(earlier, plan)])
        places = f"{changed}; in the plan: {in_plan}" if changed else in_plan
        message = f"the plan is not the one that was begun; different: {places}"
        hint = "undo the change, or begin a new run in another output.dir"
        raise PlanError(message, str(folder / PLAN), hint)
    if (folder / RESULT).is_file():
        hint = "--overwrite runs it again"
        raise PlanError("the run is finished: there is nothing to resume", str(folder), hint)


def _changed_files(earlier: RunPlan, now: RunPlan) -> list[str]:
    """Return the names of files of rows that have another content now."""
    before, after = (
        {Path(file.file).name: file.sha256 for source in plan.sources for file in source.files}
        for plan in (earlier, now)
    )
    return [name for name in after if name in before and before[name] != after[name]]


def _changed_keys(earlier: RunPlan, now: RunPlan) -> list[str]:
    """Return the recipe's keys whose values are others now; a digest knows content, not places."""
    before, after = ({d.field: d.value for d in plan.decisions} for plan in (earlier, now))
    keys = set(all_keys()) - PLACES
    return [
        field
        for field in {**before, **after}
        if re.sub(r"\[\d+\]", "", field) in keys and before.get(field) != after.get(field)
    ]


def _differences(earlier: object, now: object, path: str = "") -> list[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        found = []
        for key in sorted(earlier.keys() | now.keys()):
            found += _differences(earlier.get(key), now.get(key), f"{path}.{key}" if path else key)
        return found
    return [] if earlier == now else [path]
