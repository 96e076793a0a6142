"""Checkpoints: everything a run needs to go on, in one folder, whole or not there.

The order of rows is a function of (seed, step), so a step number is the whole data position.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_cli.errors import RunError
from lora_cli.files import new_folder, sha256_of_file, write_text

MANIFEST = "manifest.json"


@dataclass
class Progress:
    """How far a run is: steps done, and the best evaluation so far."""

    step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0


@dataclass(frozen=True)
class Trainables:
    """What training changes: the adapter's model, the optimizer and the schedule."""

    model: Any
    optimizer: Any
    scheduler: Any


def save_checkpoint(
    folder: Path,
    trained: Trainables,
    progress: Progress,
    *,
    best: dict[str, Any] | None,
    digest: str,
) -> Path:
    """Write `folder`/step-NNNNNN with adapter, best adapter, optimizer, schedule and RNG."""
    import torch
    from safetensors.torch import save_file

    target = folder / f"step-{progress.step:06d}"
    with new_folder(target) as new:
        save_file(adapter_state(trained.model), new / "adapter.safetensors")
        if best is not None:
            save_file(best, new / "best_adapter.safetensors")
        torch.save(trained.optimizer.state_dict(), new / "optimizer.pt")
        torch.save(_random_state(), new / "random.pt")
        state = {"digest": digest, "scheduler": trained.scheduler.state_dict(), **vars(progress)}
        (new / "state.json").write_text(json.dumps(state, indent=2), "utf-8")
        digests = {path.name: sha256_of_file(path) for path in sorted(new.iterdir())}
        write_text(new / MANIFEST, json.dumps(digests, indent=2))
    return target


def load_checkpoint(folder: Path, trained: Trainables, digest: str) -> tuple[Progress, Any]:
    """Put a checkpoint's state into `trained`; return progress and the best adapter's tensors.

    Raises:
        RunError: the checkpoint belongs to another plan.
    """
    import torch
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    state = json.loads((folder / "state.json").read_text("utf-8"))
    if state.pop("digest") != digest:
        raise RunError(f"{folder.name} belongs to another plan", str(folder))
    set_peft_model_state_dict(trained.model, load_file(folder / "adapter.safetensors"))
    trained.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    trained.scheduler.load_state_dict(state.pop("scheduler"))
    _set_random_state(torch.load(folder / "random.pt", weights_only=True))
    best = folder / "best_adapter.safetensors"
    return Progress(**state), load_file(best) if best.is_file() else None


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint whose files are all there and unchanged."""
    return next((path for path in reversed(_checkpoints(folder)) if is_whole(path)), None)


def is_whole(checkpoint: Path) -> bool:
    """Return whether every file of the manifest is there, byte for byte."""
    try:
        digests = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
        return all(sha256_of_file(checkpoint / name) == sha for name, sha in digests.items())
    except (OSError, ValueError):
        return False


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the `keep` newest checkpoints."""
    for path in _checkpoints(folder)[:-keep]:
        shutil.rmtree(path)


def adapter_state(model: Any) -> dict[str, Any]:
    """Return the adapter's tensors under the names that peft saves, on the CPU, copied."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model)
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d{6,}", path.name))


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
