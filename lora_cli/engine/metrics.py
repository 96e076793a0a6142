"""metrics.jsonl: one line a step and one an evaluation, written as they happen."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_cli.events import Evaluated, Event, StepDone
from lora_cli.files import write_text

KINDS = {StepDone: "step", Evaluated: "evaluation"}


class MetricsFile:
    """Appends steps and evaluations; a resumed run first drops lines after its checkpoint."""

    def __init__(self, path: Path, *, keep_to_step: int) -> None:
        """Open the file, with the lines of steps up to `keep_to_step` left in it."""
        self._path = path
        kept = [line for line in read_metrics(path) if line["step"] <= keep_to_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, event: Event) -> None:
        """Append the event if it is a measurement."""
        kind = KINDS.get(type(event))  # type: ignore[call-overload]
        if kind:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **asdict(event)}) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file; a half-written last line is left out."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for text in path.read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
