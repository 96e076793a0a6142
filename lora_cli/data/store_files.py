"""A store on disk: written as rows stream in, mapped as a whole, never trusted unchecked.

A folder holds three arrays and `entry.json`, which is written last and says the size and the
sha256 of each array, under its own sha256: a folder where one of them is another is no store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from lora_cli.data.store import ROW, Store
from lora_cli.facts.cache import cached_sha256
from lora_cli.files import sha256_of_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAYS = ("input_ids", "labels", "rows")
ENTRY = "entry.json"
VERSION = 5
"""Raised whenever these files would be laid out differently."""


class StoreWriter:
    """Writes stores after each other into a folder, as one; without `finish` it is no store."""

    def __init__(self, folder: Path) -> None:
        self._files = [_HashedFile(folder / name) for name in ARRAYS]
        self._folder = folder
        self._tokens = self._labels = 0
        self._label_type = ""
        self._highest_token = -1

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def add(self, store: Store) -> None:
        """Write rows after those that are there."""
        if not len(store):
            return
        label_type = store.labels.dtype.str
        assert self._label_type in ("", label_type), "labels of one source are of one type"
        self._label_type = label_type
        rows = store.rows.copy()
        rows["first_token"] += self._tokens
        rows["first_label"] += self._labels
        for file, array in zip(self._files, (store.input_ids, store.labels, rows), strict=True):
            file.write(array)
        self._tokens += store.input_ids.size
        self._labels += store.labels.size
        self._highest_token = max(self._highest_token, int(store.input_ids.max()))

    def finish(self, account: Mapping[str, Any]) -> None:
        """Write the entry, and in it what the maker wants to know when the store is opened."""
        for file in self._files:
            file.close()
        entry = {
            "version": VERSION,
            "arrays": {file.path.name: file.facts() for file in self._files},
            "label_type": self._label_type,
            "highest_token": self._highest_token,
            "account": account,
        }
        text = json.dumps(entry)
        (self._folder / ENTRY).write_text(f"{sha256_of_text(text)}\n{text}", "utf-8")


class _HashedFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = path.open("xb")
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, array: NDArray[Any]) -> None:
        content = np.ascontiguousarray(array).tobytes()
        self._digest.update(content)
        self._bytes += self._file.write(content)

    def close(self) -> None:
        self._file.close()

    def facts(self) -> dict[str, Any]:
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}


def open_store(folder: Path) -> tuple[Store, dict[str, Any]] | None:
    """Return the store in a folder, mapped, and its entry; None if it is damaged or not there."""
    try:
        digest, text = (folder / ENTRY).read_text("utf-8").split("\n", 1)
        if digest != sha256_of_text(text):
            return None
        entry = json.loads(text)
        if entry["version"] != VERSION or not _is_whole(folder, entry["arrays"]):
            return None
        types = (np.dtype(np.int32), np.dtype(entry["label_type"]), ROW)
        arrays = (_mapped(folder / name, kind) for name, kind in zip(ARRAYS, types, strict=True))
        return Store(*arrays), entry
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_whole(folder: Path, arrays: Mapping[str, Mapping[str, Any]]) -> bool:
    expected: Iterable[tuple[Path, Mapping[str, Any]]] = (
        (folder / name, arrays[name]) for name in ARRAYS
    )
    return all(
        file.stat().st_size == said["bytes"] and cached_sha256(file) == said["sha256"]
        for file, said in expected
    )


def _mapped(file: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    # read-only: a private mapping that could be written is refused where it exceeds the memory
    return np.asarray(np.memmap(file, dtype=kind, mode="r"))
