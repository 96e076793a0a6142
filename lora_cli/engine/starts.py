"""The adapter's start in the run directory: a resumed run does not compute it again.

A manifest beside it holds its sha256: a start that changed would give up other weights of the base.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lora_cli.adapters.variant import Start
from lora_cli.engine.checkpoint import MANIFEST, is_whole
from lora_cli.engine.run_directory import CHECKPOINTS
from lora_cli.errors import RunError
from lora_cli.files import new_folder, sha256_of_file, write_text
from lora_cli.model.start import load_starts, save_starts
from lora_cli.plan.run_plan import RunPlan

FILE = "start.safetensors"


def write_starts(plan: RunPlan, starts: Mapping[str, Start]) -> None:
    """Write the starts that were computed, if there are any."""
    if starts:
        with new_folder(_folder(plan)) as new:
            save_starts(new / FILE, starts)
            write_text(new / MANIFEST, json.dumps({FILE: sha256_of_file(new / FILE)}))


def read_starts(plan: RunPlan) -> dict[str, Start]:
    """Return the starts of a run that is resumed; none for a method that needs none.

    Raises:
        RunError: they are not as they were written.
    """
    if plan.adapter.spec.start_from == "seed":
        return {}
    if not is_whole(_folder(plan)):
        message = "the adapter's start is damaged: the base cannot be made again from it"
        raise RunError(message, str(_folder(plan)), "begin again with --overwrite")
    return load_starts(_folder(plan) / FILE)


def _folder(plan: RunPlan) -> Path:
    return Path(plan.run_dir) / CHECKPOINTS / "start"
