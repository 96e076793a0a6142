"""Random recipes made to fit into random capacities: is each answer what it says?

    python benchmarks/fitting.py [RECIPES]

A Llama of two layers, without weights; every answer of `--fit` is simulated anew as a recipe of its
own, and so is the next step up. Anything but "fits" and then not is a failure, and exits with 1.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from published_memory import llama

from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.memory.devices import card_of
from lora_cli.memory.estimate import estimate
from lora_cli.memory.fit import fit
from lora_cli.memory.subject import Subject, subject_of_settings

CHOICES = {
    "training.batch_size": [1, 2, 4, 8],
    "training.max_length": [128, 256, 512],
    "training.gradient_accumulation_steps": [1, 4],
    "training.gradient_checkpointing": ["true", "false"],
    "adapter.rank": [4, 16, 64],
    "adapter.variant": ["lora", "rslora", "dora"],
    "quantization": ["none", "nf4"],
    "training.optimizer": ["adamw", "adamw_8bit"],
}


def main(count: int) -> int:
    """Print each recipe's answers; return how many are wrong."""
    quiet_libraries()
    quiet_bars()
    chance, wrong = random.Random(6), 0
    with tempfile.TemporaryDirectory() as folder:
        config = llama(512, 1408, 2, (8, 4), 32000)
        (Path(folder) / "config.json").write_text(json.dumps(config), "utf-8")
        for number in range(1, count + 1):
            settings = {key: chance.choice(values) for key, values in CHOICES.items()}
            lines = [f"model={folder}", *(f"{key}={value}" for key, value in settings.items())]
            capacity = int(chance.uniform(1.9, 6) * 10**9)
            started = time.process_time()
            found = fit(_subject(lines, capacity), capacity)
            seconds = time.process_time() - started
            said = []
            for name, answer in (("batch_size", found.batch), ("max_length", found.length)):
                if answer is None:
                    said.append(f"no {name} fits")
                    continue
                verdicts = [
                    _verdict([*lines, *settings_], capacity)
                    for settings_ in (answer.settings, answer.beyond_settings)
                ]
                right = verdicts[0] == "fits" and (answer.beyond is None or verdicts[1] != "fits")
                wrong += not right
                said.append(f"{name} {answer.value}: {verdicts[0]}, next: {verdicts[1]}")
            if found.settings:
                said.append(f"levers: {_verdict([*lines, *found.settings], capacity)}")
            asked = ", ".join(map(str, settings.values()))
            print(f"{number:2} {capacity / 1e9:.2f} GB ({asked}): {'; '.join(said)}", end="")
            print(f"  [{seconds:.0f} s of a core]", flush=True)
    print(f"{wrong} answers are wrong")
    return wrong


def _subject(lines: Sequence[str], capacity: int) -> Subject:
    return subject_of_settings(lines, {}).on(card_of(capacity))


def _verdict(lines: Sequence[str], capacity: int) -> str:
    return estimate(_subject(lines, capacity)).verdict


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)))
