"""Where loracli keeps what it can make again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from lora_cli.files import sha256_of_file, write_text


def cache_folder(name: str) -> Path:
    """Return (and make) a folder of the cache: `$LORACLI_CACHE`, or `~/.cache/loracli`."""
    root = os.environ.get("LORACLI_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = (Path(root) if root else Path(base) / "loracli") / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached_sha256(path: Path) -> str:
    """Return a large file's sha256, read once for each (path, size, time of change)."""
    status = path.stat()
    state = f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    entry = cache_folder("digests") / hashlib.sha256(state.encode()).hexdigest()
    if entry.is_file():
        return entry.read_text("utf-8")
    digest = sha256_of_file(path)
    write_text(entry, digest)
    return digest
