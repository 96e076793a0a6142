"""7B, 13B and 70B × LoRA and QLoRA: the need of one row of 1,024 tokens, in both ways.

    python benchmarks/memory_tables.py [7B|13B|70B ...]

Llama 2's shapes, rank 16 on all linear layers, checkpointing. Full fine-tuning is no method of
loracli: its column is the arithmetic of mixed precision, 16 bytes a parameter (2 + 2 for weights
and gradients in bfloat16, 4 + 8 for a float32 copy and Adam's two means) without activations.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from published_memory import SHAPES, llama

from lora_cli.console.estimate_text import interval
from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.memory.devices import find_device
from lora_cli.memory.estimate import estimate
from lora_cli.memory.subject import subject_of_settings

BASES = {
    "7B": SHAPES["Llama-2-7B"],
    "13B": SHAPES["Llama-2-13B"],
    "70B": llama(8192, 28672, 80, (64, 8), 32000),
}
SETTINGS = (
    "training.batch_size=1",
    "training.max_length=1024",
    "training.gradient_checkpointing=true",
)
GIB = 1 << 30


def main(names: list[str]) -> None:
    """Print a line for each base and method."""
    quiet_libraries()
    quiet_bars()
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            base = Path(folder) / name
            base.mkdir()
            (base / "config.json").write_text(json.dumps(BASES[name]), "utf-8")
            for variant in ("lora", "qlora"):
                settings = [f"model={base}", f"adapter={variant}", *SETTINGS]
                subject = subject_of_settings(settings, {}).on(find_device("B200").machine())
                parameters = subject.plan.model.parameters
                if variant == "lora":
                    full = 16 * parameters / 1e9
                    print(f"{name:4} full, 16 bytes × {parameters / 1e9:.2f}B: {full:.0f} GB")
                by_hand = estimate(subject, simulated=False)
                started = time.process_time()
                found = estimate(subject)
                seconds = time.process_time() - started
                weights = sum(
                    found.categories.get(each, 0)
                    for each in ("base weights", "quantization constants", "embeddings and head")
                )
                print(
                    f"{name:4} {variant:6} weights {weights / GIB:6.2f}, peak "
                    f"{found.allocated / GIB:6.2f}, needs {interval(found.needed)} "
                    f"(closed form: peak {by_hand.allocated / GIB:6.2f}); {found.method} in "
                    f"{seconds:.0f} s of a core {found.reason}",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:] or list(BASES))
