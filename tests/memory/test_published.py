"""The published rows: figures with their sources, and those of the same software predicted."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PEFT = "huggingface/peft method_comparison/MetaMathQA"
WITHIN = 0.003
"""Of what peft's own benchmark measured, for the LoRA family."""


@pytest.fixture(scope="module")
def benchmark(repository: Path) -> ModuleType:
    """The benchmark that predicts them."""
    file = repository / "benchmarks" / "published_memory.py"
    spec = importlib.util.spec_from_file_location("published_memory", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(repository: Path) -> list[dict[str, str]]:
    with (repository / "benchmarks" / "published_memory.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_is_predicted_or_says_why_not(
    rows: list[dict[str, str]], benchmark: ModuleType
) -> None:
    assert len(rows) == 73
    for row in rows:
        assert row["source"]
        assert float(row["measured_gib"]) > 1
        assert row["settings"] or len(row["reason"]) > 10, row["row"]
        if row["settings"]:
            assert row["shape"] in benchmark.SHAPES
            assert int(row["rows"]) > 0
            assert int(row["tokens"]) > 0


def test_settings_are_those_of_a_recipe(
    rows: list[dict[str, str]], benchmark: ModuleType, tmp_path: Path
) -> None:
    known = {}
    for row in rows:
        if row["settings"] and row["settings"] not in known:
            known[row["settings"]] = benchmark._subject(row, tmp_path).plan.adapter
    assert len(known) >= 9
    lora = known["adapter={variant: lora, rank: 32, target_modules: [q_proj, v_proj]}"]
    # of 28 layers: q is 3072 × 3072, v is 1024 × 3072
    assert lora.trainable_parameters == 28 * 32 * (3072 + 3072 + 1024 + 3072)


@pytest.mark.whole
@pytest.mark.parametrize(
    "name",
    [
        "lora--llama-3.2-3B-rank32",
        "lora--llama-3.2-3B-rank10-target-mlp",
        "lora--llama-3.2-3B-rank32-dora",
    ],
)
def test_the_lora_family_of_pefts_benchmark_is_predicted(
    rows: list[dict[str, str]], benchmark: ModuleType, tmp_path: Path, name: str
) -> None:
    (row,) = [row for row in rows if row["row"] == name and row["source"] == PEFT]
    predicted = benchmark._predicted(row, tmp_path) / (1 << 30)
    assert predicted == pytest.approx(float(row["measured_gib"]), rel=WITHIN)
