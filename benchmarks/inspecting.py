"""Wall time, CPU time and peak memory of `loracli inspect-targets` on the configs of large models.

Each runs in a process of its own. What importing torch, transformers and the architecture's code
takes is told beside it: most of the time is that.

Run: taskset -c 0 python benchmarks/inspecting.py [8B 70B 405B mixtral deepseek kimi …]
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


def main(names: list[str]) -> None:
    """Measure each model twice, and print the second time: files are then in the page cache."""
    import transformers

    print(f"{'model':10} {'wall s':>8} {'CPU s':>8} {'imports alone, CPU s':>22} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            config_class, values = MODELS[name]
            path = str(Path(folder) / name)
            getattr(transformers, config_class)(**values).save_pretrained(path)
            command = [sys.executable, "-m", "lora_cli", "inspect-targets", path, "--json"]
            measured(command)
            wall, cpu, megabytes = measured(command)
            _, imports, _ = measured([sys.executable, "-c", _IMPORTS, path])
            print(f"{name:10} {wall:8.1f} {cpu:8.1f} {imports:22.1f} {megabytes:8.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(MODELS))
