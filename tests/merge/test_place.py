"""What is replaced by an export: an earlier one of its kind, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lora_cli.errors import MergeError
from lora_cli.merge.place import check_place

MARK = "adapter_config.json"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """Return an export's folder."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    (folder / MARK).touch()
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
