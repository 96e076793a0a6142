"""Wall time of `loracli --help` and of a recipe error beside importing typer and rich.

Run: python benchmarks/startup.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAD_RECIPE = """model: {name: base, dtpe: bfloat16}
adapter: {variant: lroa, rank: "16"}
dataset: rows.jsonl
training: {lerning_rate: 1e-4}
"""


def main(rounds: int) -> None:
    """Time each command `rounds` times in turn, after one warm-up, and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "bad.yaml"
        recipe.write_text(BAD_RECIPE, "utf-8")
        commands = {
            "import typer, rich": [sys.executable, "-c", "import typer, rich"],
            "loracli --help": [sys.executable, "-m", "lora_cli", "--help"],
            "recipe error": [sys.executable, "-m", "lora_cli", "plan", str(recipe)],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                started = time.perf_counter()
                subprocess.run(command, capture_output=True, check=False)
                if number:
                    times[name].append(time.perf_counter() - started)
    reference = statistics.median(times["import typer, rich"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:20} {median * 1000:6.0f} ms  {median / reference:5.2f} ×")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
