"""Rows: a sequence over stores of which nothing is read before it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.data.load import load_dataset
from lora_cli.data.rows import Rows
from lora_cli.data.source import RowSource
from lora_cli.errors import RunError
from lora_cli.formats import Example, Pair
from tests.helpers.letters import Letters
from tests.helpers.tiny_models import write_rows


def pair(name: str, length: int) -> dict[str, str]:
    return {"prompt": f"{name}?", "completion": name * length}


@pytest.fixture
def sources(tmp_path: Path) -> list[RowSource]:
    """Two sources: one of two files with blank and bad lines between, one of a single file."""
    first, second, third = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    lines = (json.dumps(pair("a", length)) for length in (1, 2, 3))
    first.write_text("\n\n".join(lines))
    write_rows(second, [pair("b", 4), {"prompt": "Q", "completion": 3}, pair("b", 5)])
    write_rows(third, [pair("c", 6)])
    return [RowSource((first, second), on_bad_row="skip"), RowSource((third,))]


@pytest.fixture
def rows(sources: list[RowSource]) -> Rows:
    return load_dataset(sources, Letters()).train


def places(rows: Rows) -> list[tuple[str, int, int]]:
    return [(Path(row.file).name, row.line, row.source) for row in rows]


PLACES = [
    ("a.jsonl", 1, 0),
    ("a.jsonl", 3, 0),
    ("a.jsonl", 5, 0),
    ("b.jsonl", 1, 0),
    ("b.jsonl", 3, 0),
    ("c.jsonl", 1, 1),
]


def test_each_row_knows_its_file_line_and_source(rows: Rows) -> None:
    assert places(rows) == PLACES
    assert rows.source.tolist() == [0] * 5 + [1]


def test_figures_are_those_of_the_tokens(rows: Rows) -> None:
    assert rows.lengths.tolist() == [row.tokens.input_ids.size for row in rows] == [
        3, 4, 5, 6, 7, 8,
    ]  # fmt: skip
    assert rows.supervised.tolist() == [row.tokens.supervised for row in rows]
    assert rows.lengths.dtype == rows.supervised.dtype == np.int32
    assert rows.figures("prompt_tokens").tolist() == [2] * 6
    assert rows.figures("ends").all()


def test_tokens_come_as_they_were_made(rows: Rows) -> None:
    row = rows[4]
    expected = Letters().encode(Pair("b?", "bbbbb"))
    assert row.tokens.input_ids.tolist() == expected.input_ids.tolist()
    assert row.tokens.labels.tolist() == expected.labels.tolist()
    assert row.tokens.input_ids.flags.writeable, "torch refuses arrays that it could not write to"


def test_examples_are_read_again_in_order(rows: Rows) -> None:
    assert [example.answer for example in rows.examples()] == [
        "a", "aa", "aaa", "bbbb", "bbbbb", "cccccc",
    ]  # fmt: skip
    assert rows[4].example == Pair("b?", "bbbbb")
    assert rows[-1].example == Pair("c?", "cccccc")


@settings(max_examples=20, deadline=None)  # each writes files to the disk
@given(indices=st.lists(st.integers(0, 5), max_size=12))
def test_any_choice_of_rows_is_rows_again(
    tmp_path_factory: pytest.TempPathFactory, indices: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder / "a.jsonl", [pair("a", length) for length in (1, 2, 3)])
    write_rows(folder / "b.jsonl", [pair("b", length) for length in (4, 5, 6)])
    source = RowSource((folder / "a.jsonl", folder / "b.jsonl"))
    rows = load_dataset([source], Letters()).train
    chosen = rows.take(indices)
    assert len(chosen) == len(indices)
    assert places(chosen) == [places(rows)[index] for index in indices]
    assert [len(each.answer) for each in chosen.examples()] == [index + 1 for index in indices]
    assert chosen.lengths.tolist() == [rows.lengths[index] for index in indices]


def test_a_slice_is_rows_and_an_index_past_the_end_ends_a_loop(rows: Rows) -> None:
    assert places(rows[1:3]) == PLACES[1:3]
    assert places(rows[::-1]) == PLACES[::-1]
    with pytest.raises(IndexError):
        rows[6]
    assert len(rows.take([])) == 0
    assert list(rows.take([]).examples()) == []


def test_a_file_that_has_changed_gives_no_examples(rows: Rows, sources: list[RowSource]) -> None:
    first = sources[0].files[0]
    first.write_text(first.read_text().replace("aaa", "aab"))
    with pytest.raises(RunError, match=r"a.jsonl: changed after its rows were read .start again"):
        list(rows.examples())
    assert [example.answer for example in rows[3:].examples()] == ["bbbb", "bbbbb", "cccccc"]
    first.unlink()
    with pytest.raises(RunError, match=r"a.jsonl: changed after"):
        _ = rows[0].example


def test_examples_that_are_held_outlive_their_file(rows: Rows, sources: list[RowSource]) -> None:
    before = list(rows.examples())
    rows.hold_examples()
    sources[0].files[0].unlink()
    assert list(rows.examples()) == list(rows.examples()) == before


class Halves(Letters):
    """Makes two rows of each example."""

    def encode_all(self, example: Example, system_prompt: str | None = None) -> list[TokenizedRow]:
        return [self.encode(example, system_prompt)] * 2


def test_several_rows_of_one_example_have_its_line(sources: list[RowSource]) -> None:
    dataset = load_dataset(sources, Halves("halves"))
    assert places(dataset.train) == [place for place in PLACES for _ in range(2)]
    assert dataset.train.example_numbers.tolist() == [n for n in range(6) for _ in range(2)]
    answers = [len(example.answer) for example in dataset.train.examples()]
    assert answers == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    facts = dataset.facts.sources[0]
    assert (facts.rows, facts.kept, facts.dropped.count) == (6, 5, 1)
    assert dataset.facts.train.rows == 12


def test_a_split_never_parts_the_rows_of_an_example(sources: list[RowSource]) -> None:
    for seed in range(4):
        dataset = load_dataset(sources, Halves("halves"), split=0.4, seed=seed)
        train, apart = set(places(dataset.train)), set(places(dataset.evaluation))
        assert not train & apart
        assert len(apart) == 2
        assert len(dataset.train) + len(dataset.evaluation) == 12
