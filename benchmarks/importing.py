"""Wall time of importing transformers and peft as loracli does, beside two import statements.

Run: python benchmarks/importing.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

PLAIN = "import transformers.modeling_layers, peft"
OURS = "from lora_cli.facts.libraries import import_libraries; import_libraries()"


def main(rounds: int) -> None:
    """Time both in turn `rounds` times, after one warm-up, and print medians."""
    codes = {"import torch": "import torch", "import statements": PLAIN, "loracli": OURS}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for number in range(rounds + 1):
        for name, code in codes.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            if number:
                times[name].append(time.perf_counter() - started)
    reference = statistics.median(times["import statements"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:20} {median:6.2f} s  {median / reference:5.2f} ×")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
