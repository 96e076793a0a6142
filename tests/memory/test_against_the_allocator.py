"""A simulated step beside the same one for real, as torch's allocator on the CPU counts it.

The two agree but for scalars that never lie on the device, and for buffers inside CPU kernels: tens
of kB, whatever the model. `benchmarks/memory.py` compares more, and larger ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_cli.memory.batch_shape import BatchShape
from lora_cli.memory.simulate import twice
from tests.helpers.measured import make_sized_model, measured, predicted
from tests.helpers.runs import plan_of, write_recipe

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "vocab_size": 1000,
    "head_dim": 16,
    "max_position_embeddings": 512,
}
PADDED = BatchShape(4, 96, padded=True)
PACK = BatchShape(1, 250, documents=(130, 120))
BF16 = {"dtype": "bfloat16"}
TOLERANCE = 0.005
"""The issue's."""

CASES: dict[str, tuple[BatchShape, dict[str, Any]]] = {
    "float32, accumulated, part supervised": (
        BatchShape(4, 96, padded=True, supervised=30),
        {"training": {"gradient_accumulation_steps": 2}},
    ),
    "dropout, sdpa, checkpointing": (
        PADDED,
        {
            "model": {"attention": "sdpa"},
            "adapter": {"dropout": 0.1},
            "training": {"gradient_checkpointing": True},
        },
    ),
    "packed": (PACK, {"training": {"batching": "packed", "batch_size": 1}}),
    "nf4, DoRA": (
        PADDED,
        {"model": BF16, "quantization": "nf4", "adapter": {"variant": "dora"}},
    ),
    "DoRA, whose products are of two types, checkpointing": (
        BatchShape(4, 96, padded=True, supervised=8),
        {
            "model": BF16,
            "adapter": {"variant": "dora"},
            "training": {"gradient_checkpointing": True},
        },
    ),
    "int8": (PADDED, {"model": BF16, "quantization": "int8"}),
    "pairs in bfloat16, dropout": (
        PADDED,
        {"model": BF16, "adapter": {"dtype": "bfloat16", "dropout": 0.1}},
    ),
    "AdamW in 8 bits": (PADDED, {"model": BF16, "training": {"optimizer": "adamw_8bit"}}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sized_model(tmp_path_factory.mktemp("sized") / "model", **SIZES)


@pytest.mark.parametrize("case", CASES)
def test_the_peak_of_a_step_is_the_allocators(case: str, base: Path, tmp_path: Path) -> None:
    shape, sections = CASES[case]
    plan = plan_of(write_recipe(tmp_path, base, **sections))
    told, found = predicted(plan, twice(plan, shape)), measured(plan, twice(plan, shape))
    assert told.loaded == found.loaded
    assert told.steps == pytest.approx(found.steps, rel=TOLERANCE)
