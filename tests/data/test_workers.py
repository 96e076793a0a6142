"""Many processes give what one gives, in its order; what goes wrong in one is told, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data import encode_rows, workers
from lora_cli.data.encode_rows import CHUNK_CHARACTERS, CHUNK_ROWS, EncodedChunk, chunks_of
from lora_cli.data.readers.read import RawRow
from lora_cli.data.workers import encode_all, worker_count
from lora_cli.errors import PlanError
from tests.helpers.letters import ENCODING, numbered, numbered_pairs

BAD = {"prompt": "Q", "completion": 3}


def told(chunks: Iterator[EncodedChunk]) -> list[tuple[Any, ...]]:
    return [
        (
            chunk.rows,
            chunk.store.input_ids.tolist(),
            chunk.store.rows.tolist(),
            chunk.dropped,
            chunk.unused_columns,
        )
        for chunk in chunks
    ]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_rows, "CHUNK_ROWS", 4)


@pytest.mark.usefixtures("small_chunks")
def test_the_number_of_workers_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = numbered_pairs(60)
    rows[7] = (1, RawRow(8, None, "not JSON", 3))
    rows[30] = (1, RawRow(31, {**BAD, "more": 1}))
    found = []
    for count in (1, 2):
        monkeypatch.setenv("LORACLI_WORKERS", str(count))
        found.append(told(encode_all(ENCODING, rows, alone_seconds=0)))
    assert found[0] == found[1]
    assert [chunk[0] for chunk in found[0]] == [4] * 15
    dropped = [row for chunk in found[0] for row in chunk[3]]
    assert [(row.file, row.line, row.column, row.reason) for row in dropped] == [
        (1, 8, 3, "not JSON"),
        (1, 31, 0, "column `completion` holds a number, not text"),
    ]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("fail", "base: the template is broken (mend it)"),
        ("die", "a process that tokenizes rows died: the memory may have run out (try with fewer"),
    ],
)
def test_what_ends_a_worker_is_an_error_and_no_hang(
    monkeypatch: pytest.MonkeyPatch, word: str, message: str
) -> None:
    monkeypatch.setenv("LORACLI_WORKERS", "2")
    with pytest.raises(PlanError) as caught:
        list(encode_all(ENCODING, numbered_pairs(40, at=20, word=word), alone_seconds=0))
    assert message in str(caught.value)


def test_little_data_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLI_WORKERS", "2")
    monkeypatch.setattr(workers, "ProcessPoolExecutor", None)
    rows = numbered_pairs(CHUNK_ROWS * 2)
    assert sum(chunk.rows for chunk in encode_all(ENCODING, rows)) == len(rows)
    with pytest.raises(TypeError):
        list(encode_all(ENCODING, rows, alone_seconds=0))


@settings(max_examples=30, deadline=None)  # megabytes of text each
@given(lengths=st.lists(st.integers(0, 3 * CHUNK_CHARACTERS // 4), max_size=12))
def test_chunks_hold_every_row_in_order_and_are_bounded(lengths: list[int]) -> None:
    rows = numbered(*({"turns": [{"content": "a" * length}]} for length in lengths))
    chunks = list(chunks_of(rows))
    assert [row for chunk in chunks for row in chunk] == rows
    for chunk in chunks:
        inside = [len(row.columns["turns"][0]["content"]) for _, row in chunk[:-1] if row.columns]
        assert sum(inside) <= CHUNK_CHARACTERS


def test_a_chunk_has_no_more_rows_than_it_may() -> None:
    assert [len(chunk) for chunk in chunks_of(numbered_pairs(CHUNK_ROWS + 1))] == [CHUNK_ROWS, 1]


def test_a_lost_row_is_our_own_mistake() -> None:
    chunk = next(encode_all(ENCODING, numbered_pairs(3)))
    with pytest.raises(AssertionError, match="a row was lost"):
        EncodedChunk(chunk.store, (), (), rows=4, kept=3)


def test_the_workers_are_as_many_as_asked_for_or_as_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LORACLI_WORKERS", "7")
    assert worker_count() == 7
    monkeypatch.delenv("LORACLI_WORKERS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert worker_count() == workers.MOST_WORKERS


ENDLESS = """
import itertools, os, sys
os.environ["LORACLI_WORKERS"] = "2"
from lora_cli.data import encode_rows
from lora_cli.data.workers import encode_all
from tests.helpers.letters import ENCODING, numbered_pairs

def main():
    encode_rows.CHUNK_ROWS = 4
    rows = itertools.cycle(numbered_pairs(8))
    for number, _ in enumerate(encode_all(ENCODING, rows, alone_seconds=0)):
        if number == 3:
            print("under way", flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(
    tmp_path: Path, repository: Path, end: signal.Signals
) -> None:
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "under way\n"
    listed = f"/proc/{process.pid}/task/{process.pid}/children"
    children = [int(each) for each in Path(listed).read_text().split()]
    assert len(children) >= 2
    process.send_signal(end)
    assert process.wait(30) != 0
    process.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, children))


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
