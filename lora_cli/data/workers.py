"""Encodes chunks of rows on all cores: the same chunks in the same order as one process gives.

The workers are started fresh (spawned), so that no thread or device of this process is inherited.
They end with this process, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait

from lora_cli.data.encode_rows import (
    EncodedChunk,
    NumberedRow,
    RowEncoding,
    chunks_of,
    encode_chunk,
)
from lora_cli.errors import PlanError
from lora_cli.formats import RowFormat

MOST_WORKERS = 16
"""The rows are read by one process, which has no more to give than so many can take."""
ALONE_SECONDS = 6.0
"""What is done in this time is done here: workers need about as long to start."""
WAITING_CHUNKS = 2
"""Chunks read ahead for each worker: more would only fill the memory."""

_encoding: RowEncoding
_format: RowFormat


def worker_count() -> int:
    """Return LORACLI_WORKERS, or how many cores this process may use."""
    asked = os.environ.get("LORACLI_WORKERS", "")
    if asked.isdecimal():
        return int(asked)
    allowed = getattr(os, "sched_getaffinity", None)  # not everywhere
    return min(MOST_WORKERS, len(allowed(0)) if allowed else os.cpu_count() or 1)


def encode_all(
    encoding: RowEncoding, rows: Iterable[NumberedRow], *, alone_seconds: float = ALONE_SECONDS
) -> Iterator[EncodedChunk]:
    """Give all rows as chunks of tokens, in order; many of them are encoded on all cores.

    Raises:
        PlanError: the rows cannot be read or encoded, or a worker died.
    """
    chunks, workers = chunks_of(rows), worker_count()
    row_format, started = encoding.row_format(), time.monotonic()
    for chunk in chunks:
        yield encode_chunk(encoding, row_format, chunk)
        if workers > 1 and time.monotonic() - started > alone_seconds:
            break
    yield from _encode_in_parallel(encoding, chunks, workers)


def _encode_in_parallel(
    encoding: RowEncoding, chunks: Iterator[Sequence[NumberedRow]], workers: int
) -> Iterator[EncodedChunk]:
    first = next(chunks, None)
    if first is None:
        return
    waiting: deque[Future[EncodedChunk]] = deque()
    with _pool(encoding, workers) as pool:
        waiting.append(pool.submit(_encode_here, first))
        for chunk in chunks:
            waiting.append(pool.submit(_encode_here, chunk))
            if len(waiting) > WAITING_CHUNKS * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _pool(encoding: RowEncoding, workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (encoding,)
    )
    try:
        yield pool
    except BrokenProcessPool as error:
        message = "a process that tokenizes rows died: the memory may have run out"
        raise PlanError(message, hint="try with fewer processes: LORACLI_WORKERS=1") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(encoding: RowEncoding) -> None:
    global _encoding, _format  # a worker's own, sent once and not with each chunk
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _encoding, _format = encoding, encoding.row_format()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _encode_here(chunk: Sequence[NumberedRow]) -> EncodedChunk:
    return encode_chunk(_encoding, _format, chunk)
