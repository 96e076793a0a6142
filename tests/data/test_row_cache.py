"""Tokens are made once for each content: a changed byte misses, damage is never trusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_cli.data import row_cache
from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.data.rows import Rows
from lora_cli.data.source import RowSource, load_source
from lora_cli.data.store_files import ARRAYS, ENTRY
from lora_cli.errors import PlanError
from lora_cli.facts.dataset import SourceFacts
from lora_cli.formats import Example
from tests.helpers.letters import Letters
from tests.helpers.tiny_models import write_rows

ROWS = [{"prompt": "Q", "completion": "a" * length} for length in range(1, 9)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORACLI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


@pytest.fixture
def source(tmp_path: Path) -> RowSource:
    return RowSource((write_rows(tmp_path / "rows.jsonl", ROWS),))


def load(source: RowSource, encoder: Letters | None = None) -> tuple[Rows, SourceFacts, int]:
    """Return the rows, their facts, and how many examples were encoded for them."""
    encoder = encoder or Letters()
    before = encoder.calls
    rows, facts = load_source(source, encoder)
    return Rows([rows]), facts, encoder.calls - before


def contents(rows: Rows) -> list[tuple[Any, ...]]:
    return [
        (row.line, row.tokens.input_ids.tolist(), row.tokens.labels.tolist(), row.tokens.supervised)
        for row in rows
    ]


def test_a_second_start_encodes_nothing_and_finds_the_same(source: RowSource) -> None:
    first, facts, calls = load(source)
    again, facts_again, calls_again = load(source)
    assert (calls, calls_again) == (8, 0)
    assert contents(again) == contents(first)
    assert facts_again == facts


def test_a_file_elsewhere_is_the_same_and_its_rows_stand_there(
    source: RowSource, tmp_path: Path
) -> None:
    load(source)
    (tmp_path / "moved.jsonl").write_bytes(source.files[0].read_bytes())
    rows, facts, calls = load(replace(source, files=(tmp_path / "moved.jsonl",)))
    assert calls == 0
    assert rows[0].file == facts.files[0].file == str(tmp_path / "moved.jsonl")
    assert rows[3].example.answer == "aaaa"


def changed_byte(source: RowSource) -> RowSource:
    file = source.files[0]
    file.write_bytes(file.read_bytes().replace(b"aaaa", b"aaab", 1))
    return source


@pytest.mark.parametrize(
    "change",
    [
        changed_byte,
        lambda source: replace(source, max_rows=7),
        lambda source: replace(source, system_prompt="S"),
        lambda source: replace(source, columns={"prompt": "completion", "completion": "prompt"}),
        lambda source: replace(source, files=source.files * 2),
    ],
    ids=["content", "max_rows", "system_prompt", "columns", "files"],
)
def test_what_decides_the_tokens_misses(
    source: RowSource, change: Callable[[RowSource], RowSource]
) -> None:
    before = contents(load(source)[0])
    rows, facts, calls = load(change(source))
    assert calls == facts.rows == len(rows) > 0
    assert contents(rows) != before


def test_another_encoder_misses(source: RowSource) -> None:
    load(source)
    assert load(source, Letters("other"))[2] == 8


def test_the_same_bytes_read_as_another_kind_miss(source: RowSource, tmp_path: Path) -> None:
    load(source)
    as_json = tmp_path / "rows.json"
    as_json.write_bytes(source.files[0].read_bytes())
    assert load(replace(source, files=(as_json,)))[2] == 8


def damage_size(entry: Path) -> None:
    with (entry / "input_ids").open("ab") as file:
        file.write(b"\0\0\0\0")


def damage_content(entry: Path) -> None:
    content = bytearray((entry / "input_ids").read_bytes())
    content[0] ^= 1
    (entry / "input_ids").write_bytes(content)


def damage_account(entry: Path) -> None:
    file = entry / ENTRY
    file.write_text(file.read_text().replace('"rows": 8', '"rows": 9'))


def no_json(entry: Path) -> None:
    (entry / ENTRY).write_text("not\njson")


def no_entry(entry: Path) -> None:
    (entry / ENTRY).unlink()


def no_array(entry: Path) -> None:
    (entry / "labels").unlink()


@pytest.mark.parametrize(
    "damage", [damage_size, damage_content, damage_account, no_json, no_entry, no_array]
)
def test_a_damaged_store_is_made_anew(
    source: RowSource, cache: Path, damage: Callable[[Path], None]
) -> None:
    first = contents(load(source)[0])
    (entry,) = (path for path in cache.iterdir() if path.is_dir())
    damage(entry)
    rows, _, calls = load(source)
    assert (calls, contents(rows)) == (8, first)
    assert load(source)[2] == 0


def test_rows_that_are_mapped_outlive_their_store(source: RowSource, cache: Path) -> None:
    rows, _, _ = load(source)
    first = contents(rows)
    (entry,) = (path for path in cache.iterdir() if path.is_dir())
    no_entry(entry)
    load(source)
    assert contents(rows) == first


def test_a_bad_row_is_not_read_again_to_be_skipped(source: RowSource) -> None:
    write_rows(source.files[0], [*ROWS, {"prompt": "Q", "completion": "!"}])
    encoder = Letters()
    for _ in range(2):
        with pytest.raises(PlanError, match=r"rows.jsonl:9: it holds 1 letters"):
            load_source(source, encoder)
    skipping = replace(source, on_bad_row="skip")
    _, facts, calls = load(skipping, encoder)
    assert (encoder.calls, calls) == (9, 0)
    assert (facts.rows, facts.kept, facts.dropped.count) == (9, 8, 1)


def test_nothing_is_kept_of_a_reading_that_fails(source: RowSource, cache: Path) -> None:
    class Fails(Letters):
        def encode(self, example: Example, system_prompt: str | None = None) -> TokenizedRow:
            if self.calls == 5:
                raise PlanError("the template is broken")
            return super().encode(example, system_prompt)

    with pytest.raises(PlanError, match="the template is broken"):
        load(source, Fails())
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    assert load(source)[2] == 8


def test_a_file_that_changes_while_it_is_read_is_not_kept(source: RowSource, cache: Path) -> None:
    class Changes(Letters):
        def encode(self, example: Example, system_prompt: str | None = None) -> TokenizedRow:
            if not self.calls:
                write_rows(source.files[0], ROWS[:3])
            return super().encode(example, system_prompt)

    with pytest.raises(PlanError, match=r"rows.jsonl: changed while it was read .start again"):
        load(source, Changes())
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_labels_keep_their_type(source: RowSource) -> None:
    for _ in range(2):
        rows, _, _ = load(source, Letters(label_type=np.float32))
        assert rows[0].tokens.labels.dtype == np.float32
        assert rows[0].tokens.input_ids.dtype == np.int32


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from lora_cli.data.source import RowSource, load_source
from tests.helpers.letters import Letters
load_source(RowSource((Path(sys.argv[1]),)), Letters(log=Path(sys.argv[2])))
"""


def test_two_processes_make_it_once(source: RowSource, tmp_path: Path, repository: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(source.files[0]), str(log)]
    both = [subprocess.Popen(command, cwd=repository) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(log.read_text().splitlines()) == 8
    assert load(source)[2] == 0


def test_a_cache_that_cannot_be_written(
    source: RowSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_cache, "new_folder", full)
    with pytest.raises(PlanError, match=r"cannot be written: No space left.*LORACLI_CACHE"):
        load(source)


def test_a_cache_of_someone_else(
    source: RowSource, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_path: Path, *_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    load(source)
    monkeypatch.setattr(os, "utime", refused)
    assert load(source)[2] == 0, "it can be read"
    monkeypatch.setattr(row_cache, "_alone", refused)
    with pytest.raises(PlanError, match=r"cannot be written: Permission denied.*LORACLI_CACHE"):
        load(replace(source, max_rows=3))


def entry_of(folder: Path, name: str, *, days: float, size: int = 10) -> Path:
    entry = folder / name
    entry.mkdir(parents=True)
    (entry / "rows").write_bytes(b"\0" * size)
    (entry / ENTRY).write_text("")
    used = time.time() - days * 24 * 3600
    for file in entry.iterdir():
        os.utime(file, (used, used))
    return entry


def test_what_is_old_or_too_much_goes_the_oldest_first(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORACLI_CACHE_GB", "55e-9")
    ages = {"new": 0.0, "a": 3.0, "b": 2.0, "c": 1.0, "old": 31.0}
    size = {"new": 20}
    entries = {
        name: entry_of(cache, name, days=days, size=size.get(name, 15))
        for name, days in ages.items()
    }
    left = entry_of(cache, ".x-0123456789abcdef", days=2)
    at_work = entry_of(cache, ".y-0123456789abcdef", days=0.5, size=0)
    row_cache.remove_old(cache, but=entries["new"])
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        [at_work.name, "b", "c", "new"]
    ), "55 bytes: 20, 15, 15 and no more"
    assert not left.exists()


def test_use_is_noted(source: RowSource, cache: Path) -> None:
    load(source)
    (entry,) = (path for path in cache.iterdir() if path.is_dir())
    os.utime(entry / ENTRY, (1, 1))
    load(source)
    assert time.time() - (entry / ENTRY).stat().st_mtime < 60


def test_the_entry_says_what_is_in_the_arrays(source: RowSource, cache: Path) -> None:
    load(source)
    (entry,) = (path for path in cache.iterdir() if path.is_dir())
    written = json.loads((entry / ENTRY).read_text().split("\n", 1)[1])
    assert {name: said["bytes"] for name, said in written["arrays"].items()} == {
        name: (entry / name).stat().st_size for name in ARRAYS
    }
    assert written["highest_token"] == ord("a")
