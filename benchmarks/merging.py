"""`loracli merge` beside peft's merge and `cp`, of one random Llama, each in its own process.

    python benchmarks/merging.py [1.2B|3B] [rounds] [folder]

Writes the base in bf16 shards and a LoRA of rank 16 on its seven projections into `folder` (a
temporary one, if left out), then runs each command `rounds` times in turns, on a warm cache.
Wall time is that of the whole process, imports included; memory is its highest resident set. The
tensors' bytes are compared with those that peft wrote.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SIZES = {
    "1.2B": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24},
    "3B": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 26},
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, output = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
merged.save_pretrained(output, max_shard_size="1GB")
"""


def main(size: str, rounds: int, folder: Path) -> None:
    base, adapter = folder / "base", folder / "adapter"
    if not adapter.is_dir():
        in_child(lambda: write(base, adapter, SIZES[size]))
    read_all(base)
    loracli = [sys.executable, "-m", "lora_cli", "merge", str(adapter), "-o"]
    commands = {
        "cp": ["cp", "-r", str(base)],
        "import torch": [sys.executable, "-c", "import torch", "--"],
        "peft": [sys.executable, "-c", PEFT, str(base), str(adapter)],
        "loracli, no proof": [*loracli[:-1], "--no-verify", "-o"],
        "loracli": loracli,
    }
    figures: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            output = folder / f"output-{name.split(',')[0]}"
            shutil.rmtree(output, ignore_errors=True)
            os.sync()  # what the command before this one wrote
            figures[name].append(measured([*command, str(output)]))
    stored = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    print(f"{size}, {stored / 1e9:.2f} GB; {rounds} rounds, medians")
    seconds = {name: statistics.median(each for each, _ in held) for name, held in figures.items()}
    for name, held in figures.items():
        peak = max(memory for _, memory in held) / 1e6
        to_peft, to_cp = (seconds[name] / seconds[other] for other in ("peft", "cp"))
        ratios = f"{to_peft:6.2f} × peft {to_cp:6.1f} × cp"
        print(f"{name:18} {seconds[name]:7.2f} s  {ratios}  {peak:7.0f} MB")
    same, count = compared(folder / "output-loracli", folder / "output-peft")
    print(f"{same} of {count} tensors are byte for byte peft's")


def measured(command: list[str]) -> tuple[float, int]:
    """Return a command's wall time in seconds and its highest resident set in bytes."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(errors.decode())
    return seconds, usage.ru_maxrss * 1024


def in_child(work: Callable[[], None]) -> None:
    """Do `work` in a process of its own, whose memory goes with it."""
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the model could not be written")


def write(base: Path, adapter: Path, sizes: dict[str, int]) -> None:
    """Write a random Llama, and an adapter of it whose A and B are both random."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = sizes["hidden_size"] // 128
    config = LlamaConfig(**sizes, num_attention_heads=heads, num_key_value_heads=heads)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(config)
    model.save_pretrained(base, max_shard_size="1GB")
    model.name_or_path = str(base)
    settings = LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, settings)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(adapter)


def read_all(base: Path) -> None:
    for file in base.iterdir():
        with file.open("rb") as opened:
            while opened.read(1 << 24):
                pass


def compared(ours: Path, theirs: Path) -> tuple[int, int]:
    """Return how many tensors have the same bytes, and how many there are."""
    import torch
    from safetensors import safe_open

    def places(folder: Path) -> dict[str, Path]:
        index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
        return {name: folder / file for name, file in index["weight_map"].items()}

    def read(file: Path, name: str) -> torch.Tensor:
        with safe_open(file, framework="pt") as opened:
            held: torch.Tensor = opened.get_tensor(name)
        return held

    one, other = places(ours), places(theirs)
    same = sum(
        read(one[name], name).view(torch.uint8).equal(read(other[name], name).view(torch.uint8))
        for name in one.keys() & other.keys()
    )
    return same, len(one.keys() | other.keys())


if __name__ == "__main__":
    which = sys.argv[1] if len(sys.argv) > 1 else "1.2B"
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if len(sys.argv) > 3:
        main(which, times, Path(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(which, times, Path(temporary))
