"""Files that are whole or not there: temporary sibling, fsync, rename; and digests of content.

A reader never sees half a file or half a folder, whenever the process dies. What a dead process
leaves behind is a sibling whose name begins with a dot.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL_BYTES = 2**20
"""A disk with less than this free is taken to be full where writing to it failed."""
_TOKEN_LENGTH = 16
"""Hexadecimal digits at the end of a temporary name."""
_SCRATCH = ".scratch"
_OLD = ".old"
"""Ends the name of a folder that is being replaced; until the new one is there, it is whole."""


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the hexadecimal sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8 so that a reader sees the old text or the new one, never half of it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never half of it."""
    temporary = _new_sibling(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def behind_links(path: Path) -> Path:
    """Return where `path` leads to; one that leads in a circle stays, and cannot be written."""
    return Path(os.path.realpath(path))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to fill; on success it takes the place of `path`, whole.

    Where `path` is a link, that is the place it leads to, on whatever disk; the link stays.
    Where `path` is there already, a process that dies between the two renames leaves no `path` at
    all, and the old folder beside it: never a mixture of both. What processes that died before
    that had begun is deleted.
    """
    path = behind_links(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(path)
    temporary = _new_sibling(path)
    temporary.mkdir()
    try:
        with locked(temporary), _full_disk_named(path.parent):
            yield temporary
            _settle(temporary)
            _replace_folder(temporary, path)
            _remove_replaced(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Give a temporary sibling of `path` that is deleted at the end.

    What processes that died left of theirs is deleted too. Its name is none that `new_folder`
    gives, which may write `path` meanwhile, and deletes what nobody holds: not every file system
    has locks.
    """
    path = behind_links(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + _SCRATCH)
    _remove_unfinished(scratch)
    temporary = _new_sibling(scratch)
    temporary.mkdir()
    try:
        with locked(temporary):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Raise what went wrong for want of space as such: libraries say it in words of their own."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free < FULL_BYTES and not isinstance(error, OSError):
            reason = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, reason, str(folder)) from error
        raise


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold `folder` for this process alone; give False at once if another one holds it.

    The lock goes with the process, however it ends. Where a file system has no locks, or a machine
    has no such call, there is none.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except OSError as error:
        held = error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    try:
        yield held
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that died left in `folder`: hidden siblings as made here."""
    for path in folder.glob(".*-" + "[0-9a-f]" * _TOKEN_LENGTH):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_unfinished(path: Path) -> None:
    """Delete the siblings that were to become `path`, of processes that are no more."""
    for sibling in path.parent.glob(_temporary_names(path)):
        if sibling.is_dir():
            with locked(sibling) as abandoned:
                if abandoned:
                    shutil.rmtree(sibling, ignore_errors=True)


def _temporary_names(path: Path) -> str:
    """Return the pattern of what `_new_sibling` gives for a path."""
    return f".{glob.escape(path.name)}-" + "[0-9a-f]" * _TOKEN_LENGTH


def _new_sibling(path: Path) -> Path:
    return path.parent / f".{path.name}-{secrets.token_hex(_TOKEN_LENGTH // 2)}"


def _replace_folder(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = _new_sibling(target)
    old = old.with_name(old.name + _OLD)
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise


def _remove_replaced(path: Path) -> None:
    """Delete what `path` has taken the place of, now or when a process died."""
    for old in path.parent.glob(_temporary_names(path) + _OLD):
        shutil.rmtree(old, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Bring everything in `folder` to the disk, files as readable as the folder itself.

    Some libraries make files that only their owner may read, whatever the user's umask says.
    """
    readable = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync_folder(path)
            continue
        path.chmod(readable)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
