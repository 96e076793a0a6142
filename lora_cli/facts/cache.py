"""Where loracli keeps what it can make again."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from lora_cli.errors import PlanError
from lora_cli.files import sha256_of_file, sha256_of_text, write_text

SMALL_BYTES = 1 << 20
"""Files up to this size are read in a moment, and not worth a memo."""
SAMPLED_BLOCKS = 4096
SETTLED_SECONDS = 2.0
"""A file changed this recently may change again without a new time stamp."""


def cache_folder(name: str) -> Path:
    """Return (and make) a folder of the cache: `$LORACLI_CACHE`, or `~/.cache/loracli`.

    Raises:
        PlanError: it cannot be made.
    """
    root = os.environ.get("LORACLI_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = (Path(root).expanduser() if root else Path(base) / "loracli") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"the cache cannot be written: {error.strerror}"
        hint = "name a folder that can be, with LORACLI_CACHE"
        raise PlanError(message, str(folder), hint) from error
    return folder


def cached_sha256(path: Path) -> str:
    """Return a file's sha256; a large file is read once for each state of it.

    Its state is where it lies, its size, its inode and the times of its changes.
    """
    status = path.stat()
    if status.st_size <= SMALL_BYTES:
        return sha256_of_file(path)
    changes = f"{status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"
    state = f"{path.resolve()}\n{status.st_size} {changes}"
    memo = cache_folder("digests") / sha256_of_text(state)
    if memo.is_file():
        return memo.read_text("utf-8")
    digest = sha256_of_file(path)
    if time.time() - status.st_ctime > SETTLED_SECONDS:
        write_text(memo, digest)
    return digest


def sampled_sha256(path: Path) -> str:
    """Return a digest of a file's size, its first MiB and 4,096 evenly spread blocks of 4 KiB.

    The first MiB holds a safetensors header. Other weights of the same shapes give another digest;
    a change of a few bytes in the middle may not.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}\n".encode())
    with path.open("rb") as file:
        digest.update(file.read(1 << 20))
        for block in range(SAMPLED_BLOCKS):
            file.seek(size * block // SAMPLED_BLOCKS)
            digest.update(file.read(4096))
    return f"sampled:{digest.hexdigest()}"
