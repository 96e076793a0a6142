"""Files at an address (`s3://…`, `https://…`) → local copies in the cache, through fsspec.

A copy is taken again when the store says that the file is another one: its size, its entity tag or
the time of its last change. This module does not know what is in a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

from lora_cli.errors import MissingDependencyError, PlanError
from lora_cli.facts.cache import cache_folder
from lora_cli.files import new_folder, sha256_of_text
from lora_cli.words import reason_of

INSTALL = "pip install 'loracli[remote]'"
_VERSIONS = ("ETag", "etag", "md5Hash", "md5", "content_md5", "generation", "version_id")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    """What lies at an address: a file, a folder of files, or the files that a pattern matches."""

    address: str
    store: Any
    """The fsspec file system."""
    path: str

    @property
    def is_folder(self) -> bool:
        """Return whether there is a folder; the web has none that could be listed."""
        with _asking(self.address):
            return not self.address.startswith("http") and bool(self.store.isdir(self.path))

    def names(self) -> list[str]:
        """Return the files of a folder and of the folders in it, relative to it."""
        with _asking(self.address):
            found = self.store.find(self.path, maxdepth=3)
        folder = PurePosixPath(self.path)
        return sorted(str(PurePosixPath(each).relative_to(folder)) for each in found)

    def matching(self) -> list[str]:
        """Return the paths that match the address, which is a pattern."""
        with _asking(self.address):
            return sorted(path for path in self.store.glob(self.path) if self.store.isfile(path))

    def fetch(self, path: str) -> Path:
        """Return a local copy of one file, which is taken unless the cache has it.

        Raises:
            PlanError: the file is not there, or the store cannot be reached.
        """
        with _asking(self.address):
            state = self._state(path)
            key = sha256_of_text(f"{self.store.protocol}\n{path}\n{state}")[:32]
            folder = cache_folder("remote") / key
            copy = folder / PurePosixPath(urlparse(path).path).name
            if not (state and copy.is_file()):
                with new_folder(folder) as new:
                    self.store.get_file(path, str(new / copy.name))
        return copy

    def _state(self, path: str) -> str:
        """Return what the store says of the file's content; empty if it would not tell a change."""
        info = self.store.info(path)
        told = {name: str(info[name]) for name in (*_VERSIONS, *_TIMES) if info.get(name)}
        return json.dumps({**told, "size": info.get("size")}, sort_keys=True) if told else ""


def remote_files(address: str) -> RemoteFiles:
    """Return what lies at an address.

    Raises:
        PlanError: the kind of address is not known.
        MissingDependencyError: the package for its kind is not installed.
    """
    with _asking(address):
        from fsspec.core import url_to_fs

        store, path = url_to_fs(address)
        return RemoteFiles(address, store, path)


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """Turn what a store's library raises into one error with a way out."""
    try:
        yield
    except PlanError:
        raise
    except ImportError as error:
        message = f"`{address}` needs a package that is not installed: {reason_of(error)}"
        raise MissingDependencyError(message, hint=INSTALL) from error
    except FileNotFoundError as error:
        raise PlanError(f"there is no file `{address}`", hint="check the address") from error
    except Exception as error:  # each store's library has its own
        hint = "check address and credentials, or download it and name the file"
        raise PlanError(f"`{address}` cannot be read: {reason_of(error)}", hint=hint) from error
