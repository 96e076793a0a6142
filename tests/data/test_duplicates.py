"""Rows that say the same are found: all exact ones, and those that differ in a few words."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.duplicates import SHOWN, exact_duplicates, near_duplicates
from lora_cli.data.load import load_dataset
from lora_cli.data.rows import Rows
from lora_cli.data.source import RowSource
from tests.helpers.letters import Letters
from tests.helpers.tiny_models import write_rows

MakeRows = Callable[[list[str]], Rows]


@pytest.fixture
def rows_of(tmp_path: Path) -> MakeRows:
    made: list[Path] = []

    def make(texts: list[str]) -> Rows:
        made.append(tmp_path / f"{len(made)}.jsonl")
        write_rows(made[-1], [{"prompt": "Q", "completion": text} for text in texts])
        return load_dataset([RowSource((made[-1],))], Letters()).train

    return make


def texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of 60 words each, all different."""
    draw = random.Random(seed)
    return [
        " ".join("".join(draw.choices("abcdefghij", k=5)) for _ in range(60)) for _ in range(count)
    ]


def with_words_changed(text: str, count: int) -> str:
    words = text.split()
    for place in range(count):
        words[place * 7 % 60] = "-----"
    return " ".join(words)


@settings(max_examples=20, deadline=None)  # each writes files to the disk
@given(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_exact_duplicates_are_all_but_the_first_of_each(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(file, [{"prompt": "Q", "completion": name} for name in names])
    found = exact_duplicates(load_dataset([RowSource((file,))], Letters()).train)
    assert found.count == len(names) - len(set(names))
    assert found.compared == len(names)
    assert [(alike.first[1], alike.second[1]) for alike in found.shown] == [
        (names.index(name) + 1, line)
        for line, name in enumerate(names, 1)
        if names.index(name) + 1 < line
    ]


def test_exact_leaks_are_rows_of_the_other_file_too(rows_of: MakeRows) -> None:
    train, apart = rows_of(["a", "b", "c"]), rows_of(["x", "c", "a", "c"])
    found = exact_duplicates(apart, train)
    assert (found.count, found.compared) == (3, 4)
    assert [(Path(a.first[0]).name, a.first[1], a.second[1]) for a in found.shown] == [
        ("0.jsonl", 3, 2),
        ("0.jsonl", 1, 3),
        ("0.jsonl", 3, 4),
    ]
    assert exact_duplicates(rows_of(["x"]), train).count == 0


def test_only_the_first_are_shown_and_all_are_counted(rows_of: MakeRows) -> None:
    rows = rows_of(["a"] * (SHOWN + 11))
    for found in (exact_duplicates(rows), near_duplicates(rows)):
        assert found.count == SHOWN + 10
        assert len(found.shown) == SHOWN


def test_near_duplicates_are_found_with_their_likeness(rows_of: MakeRows) -> None:
    some = texts(30)
    some += [with_words_changed(some[4], 1), with_words_changed(some[7], 25), some[9]]
    found = near_duplicates(rows_of(some))
    assert [(alike.first[1], alike.second[1]) for alike in found.shown] == [(5, 31), (10, 33)]
    near, exact = found.shown
    assert 0.9 < near.similarity < exact.similarity == 1.0
    assert found.count == 2


def test_near_leaks(rows_of: MakeRows) -> None:
    some = texts(30)
    apart = [*texts(3, seed=1), with_words_changed(some[11], 2)]
    found = near_duplicates(rows_of(apart), rows_of(some))
    (leak,) = found.shown
    assert (leak.first[1], leak.second[1]) == (12, 4)
    assert (found.count, found.compared) == (1, 4)


def test_what_all_rows_share_makes_none_alike(rows_of: MakeRows) -> None:
    system = texts(1, seed=2)[0] * 4
    rows = rows_of([f"{system} {text[:60]}" for text in texts(30)])
    assert near_duplicates(rows).count == 0


def test_of_too_many_rows_some_are_compared(rows_of: MakeRows) -> None:
    found = near_duplicates(rows_of([*texts(30), *texts(30)]), most_rows=20)
    assert found.compared == 20


def test_rows_shorter_than_a_run(rows_of: MakeRows) -> None:
    assert near_duplicates(rows_of(["a", "b", "a"])).count == 1
