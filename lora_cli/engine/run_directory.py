"""The run directory: who may write there, and what lies where."""

from __future__ import annotations

import shutil
from pathlib import Path

from lora_cli.errors import PlanError
from lora_cli.files import remove_leftovers, write_text
from lora_cli.plan.run_plan import RunPlan, content_of

PLAN = "plan.json"
RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
ADAPTER = "adapter"
CHECKPOINTS = "checkpoints"
ANSWERS = "answers.jsonl"
CURVE = "loss.png"
CARD = "README.md"
REPORT = "report.html"
RESULT = "result.json"
OURS = (PLAN, RECIPE, METRICS, ADAPTER, CHECKPOINTS, ANSWERS, CURVE, CARD, REPORT, RESULT)


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
    if folder.exists() and not folder.is_dir():
        raise PlanError("is a file, not a run directory", str(folder), "name another output.dir")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / PLAN).is_file():
        message = "is not empty and is not a run of loracli"
        raise PlanError(message, str(folder), "name another output.dir")
    if not overwrite:
        hint = "--resume goes on with it, --overwrite replaces it; or name another output.dir"
        raise PlanError("holds a run already", str(folder), hint)


def begin_run(plan: RunPlan) -> None:
    """Make the run directory with plan and recipe; an earlier run's files go, others stay.

    Raises:
        PlanError: nothing can be written there.
    """
    folder = Path(plan.run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in OURS:
            _remove(folder / name)
        remove_leftovers(folder)
        write_text(folder / RECIPE, plan.recipe_text)
        write_text(folder / PLAN, plan.to_json())
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise PlanError(message, str(folder), "name another output.dir") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
        changed = ", ".join(_differences(content_of(earlier), content_of(plan)))
        message = f"the plan is not the one that was begun; different: {changed}"
        hint = "undo the change, or begin a new run in another output.dir"
        raise PlanError(message, str(folder / PLAN), hint)
    if (folder / RESULT).is_file():
        hint = "--overwrite runs it again"
        raise PlanError("the run is finished: there is nothing to resume", str(folder), hint)


def _differences(earlier: object, now: object, path: str = "") -> list[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        found = []
        for key in sorted(earlier.keys() | now.keys()):
            found += _differences(earlier.get(key), now.get(key), f"{path}.{key}" if path else key)
        return found
    return [] if earlier == now else [path]
