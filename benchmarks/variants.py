"""The quickstart with every adapter variant, one after the other, in one table.

    python benchmarks/variants.py runs/variants lora rslora dora

Each is `loracli train recipes/variants/NAME.yaml` in a process of its own: the same rows, steps and
batches; each variant's own learning rate, as its recipe says. Extra arguments after `--` go to
`loracli train`, e.g. `-- --set training.steps=20`. Runs that are finished are not run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parent.parent / "recipes" / "variants"
LAST = 10
"""The final loss is the mean over this many steps: one step's rows are few."""


def main() -> None:
    arguments, _, extra = " ".join(sys.argv[1:]).partition(" -- ")
    folder, *names = arguments.split()
    for name in names:
        if not (Path(folder) / name / "result.json").is_file():
            run(name, Path(folder) / name, extra.split())
    print(
        "| variant | trainable | final loss | valid JSON | fields right | s a step | minutes | GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        print(row(name, Path(folder) / name))


def run(name: str, folder: Path, extra: list[str]) -> None:
    """Train one recipe into `folder`; its output goes to stderr."""
    command = [sys.executable, "-m", "lora_cli", "train", str(RECIPES / f"{name}.yaml")]
    command += ["--overwrite", "--set", f"output.dir={folder}", *extra]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=False, stdout=sys.stderr, env=offline)


def row(name: str, folder: Path) -> str:
    """Return one line of the table."""
    if not (folder / "result.json").is_file():
        return f"| {name} | failed | | | | | | |"
    result = read(folder / "result.json")
    plan = read(folder / "plan.json")
    lines = map(json.loads, (folder / "metrics.jsonl").read_text("utf-8").splitlines())
    steps = [line for line in lines if line["kind"] == "step"]
    loss = sum(line["loss"] for line in steps[-LAST:]) / LAST
    seconds = sorted(line["seconds"] for line in steps)[len(steps) // 2]
    scores = result["scores"]["adapter"]
    return (
        f"| {name} | {plan['adapter']['trainable_parameters']:,} | {loss:.3f} "
        f"| {scores['valid_json']:.1%} | {scores['field_accuracy']:.1%} | {seconds:.2f} "
        f"| {result['seconds'] / 60:.1f} | {result['peak_memory_bytes'] / 1e9:.2f} |"
    )


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return content


if __name__ == "__main__":
    main()
