"""A step's memory as it is simulated, beside what torch's allocator counts in the same step.

    python benchmarks/memory.py                     random models, every kind of step, on the CPU
    python benchmarks/memory.py recipes/quickstart.yaml    the largest micro batch of a recipe
    python benchmarks/memory.py --only nf4 int8     those whose name has one of these in it

Each row trains two steps for real under torch's profiler, which sees every allocation, and
simulates the same steps for the CPU without weights. `steps` is the most that is allocated beside
the loaded model; the second error is that of the model as it is loaded, with its adapter.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import yaml

from lora_cli.memory.batch_shape import BatchShape
from lora_cli.memory.simulate import twice
from lora_cli.plan.make import make_plan
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import load_recipe
from tests.helpers.measured import Growth, make_sized_model, measured, predicted
from tests.helpers.tiny_models import sum_rows, write_rows

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "head_dim": 32,
        "vocab_size": 2000,
        "max_position_embeddings": 512,
    },
    "small": {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "head_dim": 32,
        "vocab_size": 8000,
        "max_position_embeddings": 512,
    },
}
ATTENTION = ["q_proj", "v_proj"]
BF16 = {"dtype": "bfloat16"}
GC = {"gradient_checkpointing": True}
PACKED = {"batching": "packed", "batch_size": 1}
FULL, EVEN = BatchShape(4, 128, padded=True), BatchShape(2, 256)
PACK = BatchShape(1, 384, documents=(200, 120, 64))
LAST = BatchShape(4, 128, padded=True, supervised=40)


def case(shape: BatchShape = FULL, size: str = "tiny", **sections: Any) -> Any:
    return shape, size, sections


CASES = {
    "float32 eager": case(model={"attention": "eager"}),
    "float32 sdpa": case(model={"attention": "sdpa"}),
    "float32 sdpa unpadded": case(EVEN, model={"attention": "sdpa"}),
    "float32 eager checkpointing": case(model={"attention": "eager"}, training=GC),
    "float32 sdpa checkpointing": case(model={"attention": "sdpa"}, training=GC),
    "float32 dropout": case(adapter={"dropout": 0.1}),
    "float32 dropout checkpointing": case(adapter={"dropout": 0.1}, training=GC),
    "float32 q and v": case(adapter={"target_modules": ATTENTION}),
    "float32 q and v checkpointing": case(adapter={"target_modules": ATTENTION}, training=GC),
    "float32 last tokens supervised": case(LAST),
    "float32 two micro batches": case(training={"gradient_accumulation_steps": 2}),
    "float32 packed eager": case(PACK, model={"attention": "eager"}, training=PACKED),
    "float32 packed sdpa": case(PACK, model={"attention": "sdpa"}, training=PACKED),
    "float32 packed checkpointing": case(PACK, training={**PACKED, **GC}),
    "bfloat16 eager": case(model=BF16),
    "bfloat16 sdpa": case(model={"attention": "sdpa", **BF16}),
    "bfloat16 checkpointing": case(model=BF16, training=GC),
    "bfloat16 dropout": case(model=BF16, adapter={"dropout": 0.05}),
    "bfloat16 q and v": case(model=BF16, adapter={"target_modules": ATTENTION}),
    "bfloat16 pairs": case(model=BF16, adapter=BF16),
    "bfloat16 pairs dropout": case(model=BF16, adapter={"dropout": 0.05, **BF16}),
    "bfloat16 pairs, head beside": case(
        model=BF16, adapter={"modules_to_save": ["lm_head"], **BF16}
    ),
    "bfloat16 pairs small": case(EVEN, "small", model=BF16, adapter=BF16),
    "bfloat16 pairs 8-bit AdamW": case(
        model=BF16, adapter=BF16, training={"optimizer": "adamw_8bit"}
    ),
    "bfloat16 8-bit AdamW": case(model=BF16, training={"optimizer": "adamw_8bit"}),
    "bfloat16 small": case(EVEN, "small", model=BF16),
    "bfloat16 small checkpointing": case(EVEN, "small", model=BF16, training=GC),
    "float32 small sdpa": case(EVEN, "small", model={"attention": "sdpa"}),
    "nf4": case(model=BF16, quantization="nf4"),
    "nf4 checkpointing": case(model=BF16, quantization="nf4", training=GC),
    "nf4 bfloat16 pairs checkpointing": case(
        model=BF16, quantization="nf4", adapter=BF16, training=GC
    ),
    "nf4 dropout small": case(
        EVEN, "small", model=BF16, quantization="nf4", adapter={"dropout": 0.1}
    ),
    "fp4, scales not quantized": case(
        model=BF16, quantization={"method": "fp4", "double_quantization": False}
    ),
    "int8": case(model=BF16, quantization="int8"),
    "int8 checkpointing": case(model=BF16, quantization="int8", training=GC),
    "whole head beside": case(model=BF16, adapter={"modules_to_save": ["lm_head"]}),
    "lora_fa": case(model=BF16, training={"optimizer": "lora_fa"}),
    "lora_fa bfloat16 pairs": case(model=BF16, adapter=BF16, training={"optimizer": "lora_fa"}),
    "nora bfloat16 pairs": case(model=BF16, adapter={"variant": "nora", **BF16}),
    **{
        name: case(model=BF16, adapter={"variant": name})
        for name in (
            "rslora", "dora", "adalora", "nora", "pissa", "vera", "randlora", "loha", "lokr",
            "ia3", "oft", "boft", "miss", "fourierft", "prompt_tuning", "prefix_tuning", "p_tuning",
        )
    },
    "dora nf4 checkpointing": case(
        model=BF16, quantization="nf4", adapter={"variant": "dora"}, training=GC
    ),
}  # fmt: skip


def main() -> None:
    logging.disable(logging.WARNING)
    only = sys.argv[2:] if sys.argv[1:2] == ["--only"] else []
    print("| step | predicted steps, MB | measured | error | model, MB | error | seconds |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1:] and not only:
            plan = make_plan(load_recipe(Path(sys.argv[1]), sys.argv[2:]))
            batch = BatchShape(plan.schedule.batch_size, plan.data.train.longest, padded=True)
            show(sys.argv[1], plan, batch)
            return
        errors = [
            show(name, planned(Path(folder), size, sections), shape)
            for name, (shape, size, sections) in CASES.items()
            if not only or any(part in name for part in only)
        ]
    sizes = sorted(map(abs, errors))
    median = statistics.median(sizes)
    print(f"\n{len(sizes)} steps: median |error| {median:.3%}, largest {sizes[-1]:.3%}")


def show(name: str, plan: RunPlan, shape: BatchShape) -> float:
    """Print a row of the table; return the error of the steps."""
    started = time.perf_counter()
    told = predicted(plan, twice(plan, shape))
    seconds = time.perf_counter() - started
    found: Growth = measured(plan, twice(plan, shape))
    error, loaded = told.steps / found.steps - 1, told.loaded / found.loaded - 1
    print(
        f"| {name} | {told.steps / 1e6:,.3f} | {found.steps / 1e6:,.3f} | {error:+.3%} "
        f"| {found.loaded / 1e6:,.3f} | {loaded:+.3%} | {seconds:.1f} |",
        flush=True,
    )
    return error


def planned(folder: Path, size: str, sections: dict[str, Any]) -> RunPlan:
    """Return the plan of a recipe on a random model."""
    base = folder / size
    if not base.exists():
        make_sized_model(base, **SIZES[size])
    write_rows(folder / "rows.jsonl", sum_rows(24))
    recipe: dict[str, Any] = {
        "model": {"name": str(base), "dtype": "float32"},
        "adapter": {"variant": "lora"},
        "dataset": "rows.jsonl",
        "training": {"batch_size": 4, "steps": 40},
        "output": {"dir": str(folder / "run")},
    }
    for name, section in sections.items():
        held = recipe.get(name)
        recipe[name] = {**held, **section} if isinstance(held, dict) else section
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), "utf-8")
    return make_plan(load_recipe(file, ()))


if __name__ == "__main__":
    main()
