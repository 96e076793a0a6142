"""A merge that is killed at any moment leaves the whole checkpoint under its name, or nothing.

A process takes seconds to import what merging needs, and its moments of writing are few and short.
So this process is forked once all is imported, and the child kills itself (SIGKILL, which runs no
handler) just before the n-th of the operations that change what others see on the disk.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.adapters import TARGETS, make_adapter, save_as
from tests.helpers.merges import merge_into
from tests.helpers.runs import PLAIN_PEFT

pytestmark = [
    PLAIN_PEFT,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]
TinyModel = Callable[[str], Path]
TIMES = 30
OPERATIONS = ("pwrite", "copy_file_range", "open", "ftruncate", "fsync", "mkdir", "rename", "chmod")


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files but the report, which tells the time that it took."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name != "merge_report.json"
    }


def counting(limit: int | None) -> list[int]:
    """Count the operations of this process; at the one numbered `limit`, end it as a kill does."""
    counted = [0]

    def watched(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            counted[0] += 1
            if counted[0] == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **options)

        return call

    for name in OPERATIONS:
        setattr(os, name, watched(getattr(os, name)))
    return counted


def in_a_child(work: Callable[[], int]) -> int:
    """Return the status of a forked process that ends with what `work` returns."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def test_thirty_kills_leave_all_or_nothing(tmp_path: Path, tiny_model: TinyModel) -> None:
    base = save_as(tiny_model("llama"), tmp_path / "base", torch.float32, max_shard_size="40KB")
    adapter = make_adapter(tmp_path / "adapter", base, TARGETS["llama"])
    merge_into(tmp_path / "reference", adapter)
    reference = content(tmp_path / "reference")

    def merge(limit: int | None, told: Path | None = None) -> int:
        torch.set_num_threads(1)
        counted = counting(limit)
        merge_into(tmp_path / "out" / "merged", adapter)
        if told is not None:
            told.write_text(str(counted[0]))
        return 0

    assert in_a_child(lambda: merge(None, tmp_path / "count")) == 0
    span = int((tmp_path / "count").read_text())
    assert span > 60
    whole = 0
    moments = [1, span, *random.Random(0).sample(range(2, span), TIMES - 2)]
    for moment in moments:
        clear(tmp_path / "out")
        status = in_a_child(lambda limit=moment: merge(limit))
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGKILL
        output = tmp_path / "out" / "merged"
        if output.exists():
            whole += 1
            assert content(output) == reference
            assert (output / "merge_report.json").is_file()
        left = [path.name for path in (tmp_path / "out").iterdir() if path != output]
        assert all(name.startswith(".merged-") for name in left)
    assert 0 < whole < TIMES, "moments before and after the last rename"


def clear(folder: Path) -> None:
    """Leave nothing in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
