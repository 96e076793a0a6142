"""Wall time, CPU time and peak memory of `loracli inspect-targets` and `loracli estimate-memory`.

On the configs of large models, each in a process of its own; the estimate is that of QLoRA, one row
of 2,048 tokens a step. What importing torch, transformers, peft and the architecture's code takes
is told beside it.

Run: python benchmarks/inspecting.py [8B 70B 405B mixtral deepseek kimi …]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LLAMA = {"num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 131_072}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "8B": (
        "LlamaConfig",
        {
            **LLAMA,
            "hidden_size": 4096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
        },
    ),
    "70B": (
        "LlamaConfig",
        {
            **LLAMA,
            "hidden_size": 8192,
            "intermediate_size": 28_672,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
        },
    ),
    "405B": (
        "LlamaConfig",
        {
            **LLAMA,
            "hidden_size": 16_384,
            "intermediate_size": 53_248,
            "num_hidden_layers": 126,
            "num_attention_heads": 128,
        },
    ),
    "mixtral": (
        "MixtralConfig",
        {
            "hidden_size": 6144,
            "intermediate_size": 16_384,
            "num_hidden_layers": 56,
            "num_attention_heads": 48,
        },
    ),
    "deepseek": ("DeepseekV3Config", {}),
    "kimi": ("DeepseekV3Config", {"n_routed_experts": 384, "vocab_size": 163_840}),
}
"""mixtral is 8×22B; kimi is a mixture of a trillion parameters with DeepSeek-V3's layers."""

QLORA = ["--variant", "qlora", "--rank", "16", "--batch-size", "1", "--max-length", "2048"]
COMMANDS = {
    "inspect-targets": [],
    "estimate-memory": [*QLORA, "--device", "B200", "--no-levers"],
    "with its levers": [*QLORA, "--device", "B200", "--levers"],
}
_IMPORTS = """
import sys
from transformers import AutoConfig, AutoModelForCausalLM
AutoModelForCausalLM._model_mapping[type(AutoConfig.from_pretrained(sys.argv[1]))]
import peft
"""


def measured(command: list[str]) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak MB of a command."""
    script = (
        "import resource, subprocess, sys, time\n"
        "started = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True, capture_output=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, *command], check=True, capture_output=True, text=True
    )
    wall, cpu, megabytes = map(float, found.stdout.split())
    return wall, cpu, megabytes


def show(*cells: str) -> None:
    """Print a row of the table."""
    print(" ".join(f"{each:>15}" for each in cells), flush=True)


def main(names: list[str]) -> None:
    """Print each command's figures; what is imported has been read before."""
    import transformers

    show("model", "command", "wall s", "CPU s", "imports, CPU s", "MB")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            config_class, values = MODELS[name]
            path = str(Path(folder) / name)
            getattr(transformers, config_class)(**values).save_pretrained(path)
            for _ in range(2):
                _, imports, _ = measured([sys.executable, "-c", _IMPORTS, path])
            for command, options in COMMANDS.items():
                asked = ["estimate-memory", "--model", path] if options else [command, path]
                whole = [sys.executable, "-m", "lora_cli", *asked, *options, "--json"]
                wall, cpu, megabytes = measured(whole)
                seconds = [f"{each:.1f}" for each in (wall, cpu, imports)]
                show(name, command, *seconds, f"{megabytes:.0f}")


if __name__ == "__main__":
    main(sys.argv[1:] or list(MODELS))
