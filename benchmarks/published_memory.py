"""Published peaks of memory beside what is predicted for them, by source; rows left out say why.

    python benchmarks/published_memory.py [PART OF A SOURCE OR ROW ...]

`published_memory.csv` holds figures and where they were published. Rows of peft's method comparison
are simulated through that benchmark's own loop: the longest row has 692 tokens and the rows before
it 85, calibrated on eight of its rows, both LoRA rows among them (the data is not at hand); four
short steps, `empty_cache`, then the longest batch, with the last step's outputs still held. All
other rows are simulated as loracli itself would train them, but for the logits, which the others
computed at once, and compared with another program's peak: the difference is theirs as much as
ours. Bases are configs of known sizes, without weights.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.memory.allocator import Block, CachingAllocator, minimum_capacity
from lora_cli.memory.devices import find_device
from lora_cli.memory.estimate import WORKSPACE, traced
from lora_cli.memory.known import UnknownValueError
from lora_cli.memory.simulate import CannotSimulate
from lora_cli.memory.subject import Subject, subject_of_settings
from lora_cli.memory.trace import Trace
from lora_cli.words import reason_of

TABLE = Path(__file__).parent / "published_memory.csv"
GIB = 1 << 30
SHORT, LONG = 85, 692
"""Tokens of the batches in peft's loop."""


def llama(  # noqa: PLR0917  # as the sizes are told
    hidden: int, inside: int, layers: int, heads: tuple[int, int], rows: int
) -> dict[str, Any]:
    """Return a Llama's config: sizes, (heads, heads of keys and values), the vocabulary."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inside,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": rows,
        "max_position_embeddings": 131072,
        "dtype": "bfloat16",
    }


SHAPES: dict[str, dict[str, Any]] = {
    "Llama-3.2-3B": {**llama(3072, 8192, 28, (24, 8), 128256), "tie_word_embeddings": True},
    "Llama-3.1-8B": llama(4096, 14336, 32, (32, 8), 128256),
    "Llama-3.1-70B": llama(8192, 28672, 80, (64, 8), 128256),
    "Llama-2-7B": llama(4096, 11008, 32, (32, 32), 32000),
    "Llama-2-13B": llama(5120, 13824, 40, (40, 40), 32000),
    "MiMo-7B": {
        **llama(4096, 11008, 36, (32, 8), 151680),
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
    },
}


def main(parts: list[str]) -> None:
    """Print the rows whose source or name holds one of `parts`; without any, all of them."""
    quiet_libraries()
    quiet_bars()
    with TABLE.open(newline="", encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table) if _is_wanted(row, parts)]
    with tempfile.TemporaryDirectory() as folder:
        for name in dict.fromkeys(row["source"] for row in rows):
            of_source = [row for row in rows if row["source"] == name]
            errors = list(_printed(name, of_source, Path(folder)))
            if errors:
                spread = f"median |error| {median(map(abs, errors)):.2%}"
                print(f"  {len(errors)} of {len(of_source)} rows: {spread}", flush=True)


def _is_wanted(row: Mapping[str, str], parts: list[str]) -> bool:
    return not parts or any(part in f"{row['source']} {row['row']}" for part in parts)


def _printed(source: str, rows: list[dict[str, str]], folder: Path) -> Iterator[float]:
    """Print the rows of one source; yield the errors of those that are predicted."""
    print(f"\n{source}", flush=True)
    for row in rows:
        measured = float(row["measured_gib"])
        if row["reason"] and not row["settings"]:
            print(f"  {row['row']:58} {measured:8.3f} GiB  not predicted: {row['reason']}")
            continue
        try:
            predicted = _predicted(row, folder) / GIB
        except (CannotSimulate, UnknownValueError) as error:
            print(f"  {row['row']:58} {measured:8.3f} GiB  not predicted: {reason_of(error)}")
            continue
        error = predicted / measured - 1
        yield error
        figures = f"{predicted:8.3f} predicted, {measured:8.3f} GiB measured {error:+7.2%}"
        print(f"  {row['row']:58} {figures}  {row['reason']}".rstrip(), flush=True)


def _predicted(row: Mapping[str, str], folder: Path) -> int:
    subject = _subject(row, folder)
    if row["loop"] == "peft benchmark":
        return _reserved_by_peft(subject)
    from lora_cli.tasks import chunked_loss

    with patch.object(chunked_loss, "CHUNK", sys.maxsize):
        found = traced(subject)
    if found.method != "simulated":
        raise CannotSimulate(found.reason)
    return minimum_capacity(found.trace, workspace=WORKSPACE)


def _subject(row: Mapping[str, str], folder: Path) -> Subject:
    base = folder / row["shape"]
    base.mkdir(exist_ok=True)
    (base / "config.json").write_text(json.dumps(SHAPES[row["shape"]]), "utf-8")
    given = [each for each in row["settings"].split(";") if each]
    sizes = [f"training.batch_size={row['rows']}", f"training.max_length={row['tokens']}"]
    subject = subject_of_settings([f"model={base}", *given, *sizes], {})
    return subject.on(find_device("H100").machine())


def _reserved_by_peft(subject: Subject) -> int:
    """Return the most that is reserved in four short steps, a clean cache and a long one."""
    trace, borders = _peft_steps(subject, [SHORT] * 4 + [LONG])
    allocator, blocks = CachingAllocator(), dict[int, Block]()
    allocator.allocate(WORKSPACE)
    for index, event in enumerate(trace.events):
        if index == borders[4]:
            allocator.give_back()
        if event >= 0:
            blocks[event] = allocator.allocate(trace.storages[event].size)
        elif ~event in blocks:
            allocator.release(blocks.pop(~event))
    return allocator.most_reserved


def _peft_steps(subject: Subject, lengths: list[int]) -> tuple[Trace, list[int]]:
    """Return the trace of peft's training loop, and the event at which each step begins."""
    import torch

    from lora_cli.memory.kernels import kernels_of
    from lora_cli.memory.meta_model import build_on_meta
    from lora_cli.memory.mode import SimulatedDevice
    from lora_cli.memory.places import Places
    from lora_cli.memory.tracker import Storages

    plan, storages, borders = subject.plan, Storages(), list[int]()
    with kernels_of("cuda"):
        built = build_on_meta(plan)
        for name, category, tensor in built.tensors(plan.model.heads):
            storages.note(tensor, category, name)
        places = Places(built.module_names(), plan.model.heads)
        model = built.adapter.model
        model.train()
        parameters = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-4)
        with places.followed(), SimulatedDevice(storages, places, {}):
            for tokens in lengths:
                borders.append(len(storages.trace().events))
                batch = _padded(plan.schedule.batch_size, tokens)
                optimizer.zero_grad()
                outputs = model(**batch)  # those of the step before are held until here
                outputs.loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
        return storages.trace(), borders


def _padded(rows: int, tokens: int) -> dict[str, Any]:
    """Return a batch whose first row has all tokens, and the others one less."""
    import torch

    mask = torch.ones(rows, tokens, dtype=torch.int64)
    mask[1:, -1] = 0
    ids = torch.zeros(rows, tokens, dtype=torch.int64)
    labels = ids.masked_fill(mask == 0, -100)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: tensor.to("meta") for name, tensor in batch.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
