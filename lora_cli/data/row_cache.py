"""Where stores are kept between runs: a folder each, named by what its rows were made from.

Two processes that want the same rows make them once: the second waits, then maps what the first
has written. What is old or too much is removed whenever something new is kept.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lora_cli.data.store import Store
from lora_cli.data.store_files import ENTRY, open_store
from lora_cli.errors import PlanError
from lora_cli.facts.cache import cache_folder
from lora_cli.files import new_folder

MOST_BYTES = 50 * 10**9
"""Of all stores together, unless LORACLI_CACHE_GB says otherwise."""
OLDEST_SECONDS = 30 * 24 * 3600.0
"""A store that was not used for so long is removed."""
LEFT_SECONDS = 24 * 3600.0
"""A half-written store that nothing was written to for so long belongs to a process that died."""


def cached_store(key: str, make: Callable[[Path], None]) -> tuple[Store, dict[str, Any]]:
    """Return the store of a key and its entry; `make` fills a new folder if there is none.

    Raises:
        PlanError: the cache cannot be written, or what `make` raises.
    """
    folder = cache_folder("rows") / key
    found = open_store(folder)
    if found is None:
        try:
            with _alone(folder):
                found = open_store(folder) or _made(folder, make)
        except OSError as error:
            message = f"the cache cannot be written: {error.strerror or error}"
            hint = "make room, or name another folder with LORACLI_CACHE"
            raise PlanError(message, str(folder.parent), hint) from error
    with suppress(OSError):  # a cache that someone else filled
        os.utime(folder / ENTRY)  # when it was used last
    return found


def _made(folder: Path, make: Callable[[Path], None]) -> tuple[Store, dict[str, Any]]:
    with new_folder(folder) as new:
        make(new)
    made = open_store(folder)
    if made is None:
        message = "the cache does not hold what was just written to it: is its disk sound?"
        raise PlanError(message, str(folder), "name another folder with LORACLI_CACHE")
    remove_old(folder.parent, but=folder)
    return made


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from making the same store meanwhile; a process that dies lets go."""
    with folder.with_suffix(".lock").open("w") as lock:
        with suppress(OSError):  # a file system without locks: it may be made twice
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_old(folder: Path, *, but: Path) -> None:
    """Remove the stores in `folder` that are old, or used longest ago of those that are too many.

    One that is mapped stays readable for the process that has mapped it.
    """
    room = _most_bytes() - _size(but)
    now = time.time()
    stores = [path for path in folder.iterdir() if path.is_dir() and path != but]
    for store in sorted(stores, key=_last_used, reverse=True):
        half_written = store.name.startswith(".")  # by a process that died, or by one at work
        room -= 0 if half_written else _size(store)
        oldest = LEFT_SECONDS if half_written else OLDEST_SECONDS
        if now - _last_used(store) > oldest or (room < 0 and not half_written):
            shutil.rmtree(store, ignore_errors=True)
            store.with_suffix(".lock").unlink(missing_ok=True)


def _most_bytes() -> float:
    try:
        return float(os.environ["LORACLI_CACHE_GB"]) * 1e9
    except (KeyError, ValueError):
        return MOST_BYTES


def _last_used(store: Path) -> float:
    return max((file.stat().st_mtime for file in store.iterdir()), default=0.0)


def _size(store: Path) -> int:
    return sum(file.stat().st_size for file in store.iterdir())
