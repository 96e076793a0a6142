"""A name that leads nowhere from the recipe's folder, but does from the working directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lora_cli.errors import Problem


def with_name_from_here(
    problems: Iterable[Problem], name: str, base_dir: Path
) -> tuple[Problem, ...]:
    """Return the problems of `name`, with the hint how it is written where it is only near."""
    if (base_dir / name).exists() or not Path(name).exists():
        return tuple(problems)
    written = os.path.relpath(name, base_dir)
    hint = f"names are relative to the recipe; it is there from this folder: write {written}"
    return tuple(replace(problem, hint=hint) for problem in problems)
