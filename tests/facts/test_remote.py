"""A remote file is copied once, and again when the store says that it is another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lora_cli.errors import MissingDependencyError, PlanError
from lora_cli.facts.remote import RemoteFiles, remote_files


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.pipe({"/box/a.jsonl": b"one", "/box/data/b.jsonl": b"two", "/box/data/c.csv": b"three"})
    yield memory
    memory.rm("/box", recursive=True)


def fetched(remote: RemoteFiles) -> Path:
    return remote.fetch(remote.path)


def test_a_copy_has_the_name_and_the_content(store: Any) -> None:
    copy = fetched(remote_files("memory://box/a.jsonl"))
    assert (copy.name, copy.read_bytes()) == ("a.jsonl", b"one")


def test_a_file_is_copied_once(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetched(remote_files("memory://box/a.jsonl"))
    monkeypatch.setattr(store, "get_file", None)
    assert fetched(remote_files("memory://box/a.jsonl")) == first


def test_a_file_that_changed_is_copied_again(store: Any) -> None:
    first = fetched(remote_files("memory://box/a.jsonl"))
    store.pipe({"/box/a.jsonl": b"six"})
    second = fetched(remote_files("memory://box/a.jsonl"))
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"six")


def test_a_store_that_tells_no_change_is_asked_each_time(store: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "info", lambda path: {"name": path, "size": 3, "type": "file"})
        first = fetched(remote_files("memory://box/a.jsonl"))
        assert first.read_bytes() == b"one"
        store.pipe({"/box/a.jsonl": b"six"})
        assert fetched(remote_files("memory://box/a.jsonl")) == first
    assert first.read_bytes() == b"six"


def test_a_copy_that_is_cut_short_leaves_nothing(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_path: str, target: str) -> None:
        Path(target).write_bytes(b"o")
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(store, "get_file", cut)
    with pytest.raises(PlanError, match=r"`memory://box/a\.jsonl` cannot be read: reset by peer"):
        fetched(remote_files("memory://box/a.jsonl"))
    assert list((tmp_path / "cache/remote").iterdir()) == []


def test_what_a_folder_holds(store: Any) -> None:
    folder = remote_files("memory://box")
    assert folder.is_folder
    assert folder.names() == ["a.jsonl", "data/b.jsonl", "data/c.csv"]
    assert not remote_files("memory://box/a.jsonl").is_folder


def test_what_a_pattern_matches(store: Any) -> None:
    assert remote_files("memory://box/*.jsonl").matching() == ["/box/a.jsonl"]
    assert remote_files("memory://box/**/*.jsonl").matching() == [
        "/box/a.jsonl",
        "/box/data/b.jsonl",
    ]


def test_a_file_that_is_not_there(store: Any) -> None:
    with pytest.raises(PlanError, match=r"there is no file `memory://box/b\.jsonl`"):
        fetched(remote_files("memory://box/b.jsonl"))


def test_an_address_of_no_kind() -> None:
    with pytest.raises(PlanError, match="cannot be read: Protocol not known: nowhere"):
        remote_files("nowhere://box/a.jsonl")


@pytest.mark.parametrize(
    ("address", "package"), [("s3://b/a.jsonl", "s3fs"), ("gs://b/a", "gcsfs")]
)
def test_a_package_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, address: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=package) as caught:
        remote_files(address)
    assert caught.value.problems[0].hint == "pip install 'loracli[remote]'"
