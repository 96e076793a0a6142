"""Where something is written: over an earlier one of its kind only, and if there is room."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from lora_cli.errors import ExportError, MergeError, UsageError
from lora_cli.merge.place import check_place, check_room, told_as

MARK = "adapter_config.json"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """Return an export's folder."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    (folder / MARK).touch()
    (folder / "loracli.json").write_text('{"exported": {}}')
    return folder


def test_an_earlier_export_is_replaced_if_told_so(tmp_path: Path, earlier: Path) -> None:
    read = [tmp_path / "run"]
    check_place(earlier, MARK, read, overwrite=True)
    with pytest.raises(MergeError, match="earlier: exists already"):
        check_place(earlier, MARK, read, overwrite=False)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_place_without_anything_is_free(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        check_place(tmp_path / name, MARK, [], overwrite=overwrite)


def test_nothing_is_written_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MergeError, match=r"deep: cannot be written: \S+file is a file"):
        check_place(tmp_path / "file" / "deep", MARK, [], overwrite=True)


def test_what_is_no_such_export_stays(tmp_path: Path, earlier: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MergeError, match=r"has no model\.gguf: it is not overwritten"):
        check_place(earlier, "model.gguf", [], overwrite=True)
    with pytest.raises(MergeError, match=r"has no adapter_config\.json"):
        check_place(tmp_path / "file", MARK, [], overwrite=True)


def test_what_is_read_stays(tmp_path: Path, earlier: Path) -> None:
    (tmp_path / "link").symlink_to(earlier)
    run = tmp_path / "run"
    shutil.copytree(earlier, run / "adapter")
    places = [(earlier, earlier), (tmp_path / "link", earlier), (earlier, earlier / "inner")]
    for output, read in (*places, (run / "adapter", run)):
        with pytest.raises(MergeError, match="holds what is read: it is not overwritten"):
            check_place(output, MARK, [tmp_path / "other", read], overwrite=True)
    check_place(earlier, MARK, [run], overwrite=True)


def test_room_is_that_of_the_disk_of_the_nearest_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def disk_usage(folder: Path) -> object:
        asked.append(folder)
        return shutil._ntuple_diskusage(2_000_000, 1_000_000, 1_000_000)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    check_room(tmp_path / "new" / "merged", 1_000_000)
    with pytest.raises(MergeError, match=r"needs 1\.25 MB, and the disk has 1\.00 MB left"):
        check_room(tmp_path / "new" / "merged", 1_250_000)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "merged")
    (tmp_path / "far").mkdir()
    check_room(tmp_path / "link", 1_000_000)
    assert asked == [tmp_path, tmp_path, tmp_path / "far"], "the disk behind a link is filled"


def test_what_goes_wrong_is_told_as_the_commands_own(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(ExportError, match="a: is bad"), told_as(ExportError, output):
        raise MergeError("is bad", "a")
    with pytest.raises(UsageError, match="leave it out"), told_as(ExportError, output):
        raise UsageError("leave it out")
    with pytest.raises(ExportError, match="out: cannot be written: No space") as caught:
        told(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "copied"), output)
    assert "copied" not in str(caught.value), "what was read is not at fault"
    with pytest.raises(ExportError, match="shut: cannot be read or written: Permission"):
        told(OSError(errno.EACCES, os.strerror(errno.EACCES), "shut"), output)


def told(error: OSError, output: Path) -> None:
    with told_as(ExportError, output):
        raise error
