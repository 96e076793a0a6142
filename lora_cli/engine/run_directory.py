"""The run directory: who may write there, and what lies where."""

from __future__ import annotations

import shutil
from pathlib import Path

from lora_cli.engine.checkpoint import newest_checkpoint
from lora_cli.errors import PlanError, RunError
from lora_cli.files import write_text
from lora_cli.plan.run_plan import RunPlan, content_of

PLAN = "plan.json"
METRICS = "metrics.jsonl"
ADAPTER = "adapter"
CHECKPOINTS = "checkpoints"
RESULT = "result.json"


def open_run_directory(plan: RunPlan, *, resume: bool, overwrite: bool) -> Path | None:
    """Make the run directory ready; return the checkpoint to go on from, or None for a new run.

    Raises:
        PlanError: the directory is taken, or holds no run that can be resumed.
    """
    folder = Path(plan.run_dir)
    if resume:
        return _checkpoint_to_resume(folder, plan)
    if folder.exists() and not folder.is_dir():
        raise PlanError("is a file, not a run directory", str(folder), "name another output.dir")
    if folder.is_dir() and any(folder.iterdir()):
        _clear(folder, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PLAN, plan.to_json())
    write_text(folder / "recipe.yaml", plan.recipe_text)
    return None


def _clear(folder: Path, *, overwrite: bool) -> None:
    if not (folder / PLAN).is_file():
        message = "is not empty and is not a run of loracli"
        raise PlanError(message, str(folder), "name another output.dir")
    if not overwrite:
        hint = "--resume goes on with it, --overwrite replaces it; or name another output.dir"
        raise PlanError("holds a run already", str(folder), hint)
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _checkpoint_to_resume(folder: Path, plan: RunPlan) -> Path:
    try:
        earlier = RunPlan.from_json((folder / PLAN).read_text("utf-8"))
    except FileNotFoundError:
        raise PlanError("holds no run to resume", str(folder), "leave --resume out") from None
    except ValueError as error:
        raise RunError(f"cannot be read: {error}", str(folder / PLAN)) from error
    if earlier.digest != plan.digest:
        changed = ", ".join(_differences(content_of(earlier), content_of(plan)))
        message = f"the plan is not the one that was begun; different: {changed}"
        hint = "undo the change, or begin a new run in another output.dir"
        raise PlanError(message, str(folder / PLAN), hint)
    if (folder / RESULT).is_file():
        raise PlanError("the run is finished: there is nothing to resume", str(folder))
    checkpoint = newest_checkpoint(folder / CHECKPOINTS)
    if checkpoint is None:
        hint = "begin again with --overwrite"
        raise PlanError("has no whole checkpoint", str(folder / CHECKPOINTS), hint)
    return checkpoint


def _differences(earlier: object, now: object, path: str = "") -> list[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        found = []
        for key in sorted(earlier.keys() | now.keys()):
            found += _differences(earlier.get(key), now.get(key), f"{path}.{key}" if path else key)
        return found
    return [] if earlier == now else [path]
