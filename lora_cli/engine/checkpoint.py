"""Checkpoints: everything a run needs to go on, in one folder, whole or not there.

The order of rows is a function of (seed, step), so a step number is the whole data position.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_cli.engine.progress import Progress
from lora_cli.errors import RunError
from lora_cli.files import new_folder, sha256_of_file, write_text
from lora_cli.step.update import Trainables

MANIFEST = "manifest.json"
ADAPTER = "adapter.safetensors"
BEST = "best_adapter.safetensors"


@dataclass
class State:
    """Where a run stands: its figures, and the adapter's tensors at the best evaluation so far."""

    progress: Progress
    best: dict[str, Any] | None = None


def save_checkpoint(folder: Path, trained: Trainables, state: State, *, digest: str) -> Path:
    """Write and return `folder`/step-NNNNNN: adapters, optimizer, schedule and random state."""
    import torch
    from safetensors.torch import save_file

    target = folder / f"step-{state.progress.step:06d}"
    with new_folder(target) as new:
        save_file(trained.adapter.state(), new / ADAPTER)
        if state.best is not None:
            save_file(state.best, new / BEST)
        torch.save(trained.optimizer.state_dict(), new / "optimizer.pt")
        torch.save(_random_state(), new / "random.pt")
        small = {
            "digest": digest,
            "progress": asdict(state.progress),
            "scheduler": trained.scheduler.state_dict(),
            "scaler": trained.scaler.state_dict(),
        }
        write_text(new / "state.json", json.dumps(small, indent=2))
        digests = {path.name: sha256_of_file(path) for path in sorted(new.iterdir())}
        write_text(new / MANIFEST, json.dumps(digests, indent=2))
    return target


def load_checkpoint(folder: Path, trained: Trainables, *, digest: str) -> State:
    """Put a checkpoint back into `trained`, and return where the run stands.

    Raises:
        RunError: the checkpoint belongs to another plan.
    """
    import torch
    from safetensors.torch import load_file

    small = json.loads((folder / "state.json").read_text("utf-8"))
    if small["digest"] != digest:
        raise RunError("belongs to another plan", str(folder))
    trained.adapter.load_state(load_file(folder / ADAPTER))
    trained.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    trained.scheduler.load_state_dict(small["scheduler"])
    trained.scaler.load_state_dict(small["scaler"])
    _set_random_state(torch.load(folder / "random.pt", weights_only=True))
    best = folder / BEST
    return State(Progress(**small["progress"]), load_file(best) if best.is_file() else None)


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the newest whole checkpoint, and the damaged ones that are newer."""
    damaged: list[Path] = []
    for path in reversed(checkpoints(folder)):
        if is_whole(path):
            return path, damaged
        damaged.append(path)
    return None, damaged


def is_whole(checkpoint: Path) -> bool:
    """Return whether every file of the manifest is there, byte for byte."""
    try:
        digests = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
        return all(sha256_of_file(checkpoint / name) == sha for name, sha in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the `keep` newest checkpoints."""
    for path in checkpoints(folder)[:-keep]:
        shutil.rmtree(path)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def _random_state() -> dict[str, Any]:
    import torch

    version, internal, gauss = random.getstate()
    state = {"torch": torch.get_rng_state(), "python": [version, list(internal), gauss]}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    import torch

    torch.set_rng_state(state["torch"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
