"""metrics.jsonl: a line each step, evaluation and allocation of ranks, as they happen."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_cli.errors import RunError
from lora_cli.events import Evaluated, Event, RanksAllocated, StepDone
from lora_cli.files import write_text

KINDS: dict[type, str] = {StepDone: "step", Evaluated: "evaluation", RanksAllocated: "ranks"}


class MetricsFile:
    """Appends measurements; a resumed run first drops lines after its checkpoint."""

    def __init__(self, path: Path, *, keep_to_step: int) -> None:
        """Open the file, with the lines of steps up to `keep_to_step` left in it."""
        self._path = path
        kept = [line for line in read_metrics(path) if line["step"] <= keep_to_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, event: Event) -> None:
        """Append the event if it is a measurement."""
        kind = KINDS.get(type(event))
        if kind:
            line = json.dumps({"kind": kind, **asdict(event)}, allow_nan=False)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file; a last line that was only half written is left out.

    Raises:
        RunError: another line is no measurement.
    """
    if not path.is_file():
        return []
    *lines, _half = path.read_text("utf-8").split("\n")
    measurements = []
    for number, text in enumerate(lines, 1):
        try:
            measurement = json.loads(text)
            measurement["step"], measurement["kind"]
        except (ValueError, TypeError, KeyError):
            message = f"line {number} is no measurement"
            raise RunError(message, str(path), "mend or delete the line") from None
        measurements.append(measurement)
    return measurements
