"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lora_cli.files import (
    new_folder,
    remove_leftovers,
    scratch_folder,
    sha256_of_file,
    sha256_of_text,
    write_bytes,
    write_text,
)

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Crash(BaseException):
    """Stands for a signal: not an Exception, so that nothing catches it by accident."""


def crash(*_: object) -> None:
    raise Crash


def fill(folder: Path, text: str, then: Callable[[], None] | None = None) -> None:
    with new_folder(folder) as new:
        (new / "name").write_text(text)
        if then:
            then()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_digests_are_those_of_sha256(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("Grüße", "utf-8")
    assert sha256_of_file(tmp_path / "empty") == EMPTY == sha256_of_text("")
    assert sha256_of_file(tmp_path / "text") == sha256_of_text("Grüße")


@pytest.mark.parametrize("text", ["", "one\ntwo\n", "Grüße \u2028 \r\n"])
def test_text_comes_back_byte_for_byte(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == text.encode()


def test_an_existing_file_is_replaced_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"a long text that was there")
    write_bytes(tmp_path / "file", b"short")
    assert (tmp_path / "file").read_bytes() == b"short"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_crash_while_a_file_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    write_text(tmp_path / "file", "old")
    monkeypatch.setattr(moment, crash)
    with pytest.raises(Crash):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text("utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (happened.append("fsync"), fsync(handle))[1])

    def note_replace(self: Path, target: Path) -> Path:
        happened.append("rename")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", note_replace)
    write_text(tmp_path / "file", "text")
    assert happened == ["fsync", "rename", "fsync"], "content, name, and the name's own folder"


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_the_users_umask(tmp_path: Path, mask: int, expected: int) -> None:
    with umask(mask):
        write_text(tmp_path / "file", "text")
        with new_folder(tmp_path / "folder") as new:
            (new / "private").touch(mode=0o600)
    assert mode(tmp_path / "file") == expected
    assert mode(tmp_path / "folder") == expected | (expected & 0o444) >> 2
    assert mode(tmp_path / "folder" / "private") == expected, "as some libraries make their files"


def test_a_new_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with new_folder(target) as new:
        (new / "inner").mkdir()
        (new / "inner" / "file").write_text("content")
        assert not target.exists()
        assert new.parent == target.parent, "a rename must not cross file systems"
    assert (target / "inner" / "file").read_text() == "content"
    assert list(target.parent.iterdir()) == [target]


def test_an_exception_inside_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        fill(tmp_path / "folder", "half", crash)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_inside_leaves_the_old_folder(tmp_path: Path) -> None:
    fill(tmp_path / "folder", "old")
    with pytest.raises(Crash):
        fill(tmp_path / "folder", "half", crash)
    assert (tmp_path / "folder" / "name").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_full_disk_is_said_whatever_a_library_says_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr("lora_cli.files.shutil.disk_usage", lambda _path: free)
    with (
        pytest.raises(OSError, match="No space left on device") as caught,
        new_folder(tmp_path / "new"),
    ):
        raise RuntimeError("unexpected pos 71424 vs 71312")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_replaced_whole(tmp_path: Path) -> None:
    fill(tmp_path / "folder", "old")
    (tmp_path / "folder" / "stale").touch()
    fill(tmp_path / "folder", "new")
    assert (tmp_path / "folder" / "name").read_text() == "new"
    assert not (tmp_path / "folder" / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failed_second_rename_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "folder", "old")
    rename = Path.rename
    count = 0

    def second_fails(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == 2:
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="no space"):
        fill(tmp_path / "folder", "new")
    assert (tmp_path / "folder" / "name").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


KILLED = """
import os, pathlib, sys
from lora_cli.files import new_folder
folder, moment = pathlib.Path(sys.argv[1]), sys.argv[2]
rename = pathlib.Path.rename
def die_after(self, target):
    rename(self, target)
    os._exit(9)
if moment == "between the renames":
    pathlib.Path.rename = die_after
with new_folder(folder) as new:
    (new / "name").write_text("new")
    if moment == "inside":
        os._exit(9)
"""


@pytest.mark.parametrize("moment", ["inside", "between the renames"])
def test_a_process_that_is_killed_leaves_no_half_folder(tmp_path: Path, moment: str) -> None:
    fill(tmp_path / "step-000001", "old")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "step-000001"), moment]
    killed = subprocess.run(command, check=False)
    assert killed.returncode == 9
    hidden = [path for path in tmp_path.iterdir() if path.name.startswith(".step-000001-")]
    if moment == "inside":
        assert (tmp_path / "step-000001" / "name").read_text() == "old"
        assert len(hidden) == 1
    else:
        assert not (tmp_path / "step-000001").exists()
        assert sorted((path / "name").read_text() for path in hidden) == ["new", "old"]
    fill(tmp_path / "step-000001", "next")
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"], "nothing is left behind"


def test_a_scratch_folder_goes_with_its_process_or_with_the_next_one(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "deep" / "merged") as scratch:
        (scratch / "adapter").mkdir()
        fill(tmp_path / "deep" / "merged", "written meanwhile")
        assert scratch.is_dir()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["merged"]
    scratch.mkdir()  # as a process leaves it that is killed
    with scratch_folder(tmp_path / "deep" / "merged"):
        assert not scratch.exists()


def test_a_scratch_folder_stays_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_handle: int, _kind: int) -> None:
        raise OSError(errno.EBADF, "no locks on folders here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with scratch_folder(tmp_path / "merged") as scratch:
        fill(tmp_path / "merged", "written meanwhile")
        assert scratch.is_dir()


def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "near").mkdir()
    link, far = tmp_path / "near" / "merged", tmp_path / "far" / "merged"
    link.symlink_to(far)
    for text in ("first", "second"):
        with scratch_folder(link) as scratch:
            assert scratch.parent == far.parent, "on the disk that has the room"
            fill(link, text)
        assert (far / "name").read_text() == text
    assert link.is_symlink()
    assert [path.name for path in link.parent.iterdir()] == ["merged"]
    assert [path.name for path in far.parent.iterdir()] == ["merged"]


def test_a_link_in_a_circle_cannot_be_written(tmp_path: Path) -> None:
    link = tmp_path / "merged"
    link.symlink_to(link)
    with pytest.raises(OSError, match="merged"):
        fill(link, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    with new_folder(tmp_path / "one") as under_way:
        fill(tmp_path / "one", "other")
        assert under_way.is_dir()


def test_what_killed_processes_leave_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".step-000001-0123456789abcdef" / "inner").mkdir(parents=True)
    (tmp_path / ".plan.json-fedcba9876543210").touch()
    kept = [".keep-me", ".notes-2024", "plan.json", "step-000002"]
    for name in kept:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
