"""metrics.jsonl: a line each step, evaluation and allocation of ranks, as they happen."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lora_cli.errors import RunError
from lora_cli.events import Evaluated, Event, RanksAllocated, StepDone
from lora_cli.files import write_text
from lora_cli.tasks.task import Measured

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
            line = json.dumps({"kind": kind, **_fields(event)}, allow_nan=False)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def measured_at(path: Path, step: int) -> Measured:
    """Return what the task measured after `step`; nothing if there was no evaluation."""
    lines = (line for line in read_metrics(path) if line["kind"] == "evaluation")
    line = next((line for line in lines if line["step"] == step), {})
    own = {"kind", *(each.name for each in fields(Evaluated))}
    figures = {name: value for name, value in line.items() if name not in own}
    return Measured(figures, line.get("per_class", {}))


def _fields(event: Event) -> dict[str, Any]:
    """Return an event's fields; what a task measures stands beside its loss."""
    values = asdict(event)
    figures = values.pop("figures", {})
    if not values.get("per_class", True):
        del values["per_class"]
    return {**values, **figures}


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
