"""Digests are remembered for as long as a file stays as it is, and no longer."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lora_cli.errors import PlanError
from lora_cli.facts import cache
from lora_cli.facts.cache import SMALL_BYTES, cache_folder, cached_sha256


@dataclass
class Clock:
    now: float

    def time(self) -> float:
        return self.now


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is worth a memo, settled an hour ago as far as its reader can tell."""
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "time", Clock(time.time() + 3600))
    path = tmp_path / "weights.gguf"
    path.write_bytes(b"a" * (SMALL_BYTES + 1))
    return path


def memos(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("digests/*"))


def refuse_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(cache, "sha256_of_file", read)


def test_a_large_file_is_read_once(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = cached_sha256(large)
    assert digest == hashlib.sha256(large.read_bytes()).hexdigest()
    refuse_to_read(monkeypatch)
    assert cached_sha256(large) == digest


def test_a_changed_file_is_read_again(large: Path) -> None:
    before, status = cached_sha256(large), large.stat()
    content = bytearray(large.read_bytes())
    content[SMALL_BYTES // 2] ^= 1
    time.sleep(0.02)
    large.write_bytes(content)
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert large.stat().st_mtime_ns == status.st_mtime_ns, "as if it had not been touched"
    assert cached_sha256(large) == hashlib.sha256(content).hexdigest() != before


def test_a_file_that_just_changed_is_not_remembered(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "time", Clock(large.stat().st_ctime + 1))
    cached_sha256(large)
    assert memos(tmp_path) == []


def test_small_files_leave_nothing_behind(large: Path, tmp_path: Path) -> None:
    small = tmp_path / "config.json"
    small.write_bytes(b"{}")
    assert cached_sha256(small) == hashlib.sha256(b"{}").hexdigest()
    assert memos(tmp_path) == []


def test_the_cache_lies_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "own"))
    assert cache_folder("gguf") == tmp_path / "own/gguf"
    monkeypatch.delenv("LORACLI_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("gguf") == tmp_path / "xdg/loracli/gguf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("gguf") == tmp_path / ".cache/loracli/gguf"
    assert (tmp_path / ".cache/loracli/gguf").is_dir()


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "file"))
    with pytest.raises(PlanError, match="the cache cannot be written: Not a directory") as caught:
        cache_folder("gguf")
    assert "LORACLI_CACHE" in caught.value.problems[0].hint
