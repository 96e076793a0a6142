"""The memory page's table of rules of thumb: each figure follows from the base's shapes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lora_cli.memory.closed_form import closed_form
from lora_cli.memory.components import by_category
from lora_cli.memory.devices import find_device
from lora_cli.memory.estimate import CONTEXT
from lora_cli.memory.subject import Subject, subject_of_settings
from tests.helpers.model_folders import config_folder

GIB = 1 << 30
SHAPES = {
    "7B": (4096, 11008, 32, 32, 32),
    "13B": (5120, 13824, 40, 40, 40),
    "70B": (8192, 28672, 80, 64, 8),
}
SETTINGS = (
    "training.batch_size=1",
    "training.max_length=1024",
    "training.gradient_checkpointing=true",
)


def cells(repository: Path, name: str) -> list[str]:
    """Return the cells of a row of the table."""
    text = (repository / "docs" / "memory.md").read_text("utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def llama(folder: Path, name: str) -> Subject:
    hidden, inside, layers, heads, keys = SHAPES[name]
    base = config_folder(
        folder,
        "LlamaConfig",
        vocab_size=32000,
        hidden_size=hidden,
        intermediate_size=inside,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
    )
    found = subject_of_settings([f"model={base}", "adapter=lora", *SETTINGS], {})
    return found.on(find_device("B200").machine())


@pytest.mark.parametrize("name", SHAPES)
def test_the_table_is_what_the_shapes_come_to(repository: Path, tmp_path: Path, name: str) -> None:
    _, full, _, lora, _, qlora = cells(repository, name)
    subject = llama(tmp_path, name)
    if name == "7B":
        assert full.startswith("112 or 60 GB")
        assert 16 * 7 == 112
        assert round(16 * subject.plan.model.parameters / 1e9) == 108  # as the text says
    else:
        gigabytes = int(re.sub(r"\D", "", full.partition(" GB")[0]))
        assert gigabytes == round(16 * subject.plan.model.parameters / 1e9)
    for said, variant in ((lora, "lora"), (qlora, "qlora")):
        low, high, weights = map(float, re.findall(r"[\d.]+", said))
        changed = subject.with_settings([f"adapter={variant}"])
        trace = closed_form(changed.plan, changed.facts.base, changed.batch)
        kinds = by_category(trace)
        held = ("base weights", "quantization constants", "embeddings and head")
        assert sum(kinds.get(each, 0) for each in held) / GIB == pytest.approx(weights, abs=0.01)
        # simulated, and with room for the allocator: the closed form is below, and not by much
        peak = trace.peak_bytes() / GIB
        assert peak < high - CONTEXT.low / GIB
        assert peak == pytest.approx(low - CONTEXT.low / GIB, rel=0.15)
