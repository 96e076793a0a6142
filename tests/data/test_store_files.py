"""What is written in any pieces is mapped as one store, the same as in memory."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.data.store import ROW, Store, pack_rows
from lora_cli.data.store_files import StoreWriter, open_store

Numbered = tuple[int, int, TokenizedRow]


@st.composite
def numbered_rows(draw: st.DrawFn) -> Numbered:
    """Draw a row whose labels may be fewer than its tokens, as those of a class are."""
    ids = np.array(draw(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6)), np.int32)
    labels = np.array(draw(st.lists(st.integers(-100, 9), min_size=1, max_size=6)), np.int32)
    row = TokenizedRow(
        ids, labels, len(ids) - 1, draw(st.integers(0, 9)), draw(st.booleans()), len(labels)
    )
    return draw(st.integers(0, 3)), draw(st.integers(1, 2**40)), row


def contents(store: Store) -> list[list[Any]]:
    return [
        [
            int(store.rows[index]["file"]),
            int(store.rows[index]["line"]),
            *(np.asarray(getattr(row, field.name)).tolist() for field in fields(row)),
        ]
        for index in range(len(store))
        for row in [store.tokens(index)]
    ]


def expected(rows: list[Numbered]) -> list[list[Any]]:
    return [
        [
            file,
            line,
            *(np.asarray(getattr(row, field.name)).tolist() for field in fields(row)),
        ]
        for file, line, row in rows
    ]


@settings(max_examples=30, deadline=None)  # each writes files to the disk
@given(chunks=st.lists(st.lists(numbered_rows(), max_size=4), max_size=4))
def test_rows_come_back_however_they_were_divided(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[Numbered]]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    rows = [row for chunk in chunks for row in chunk]
    assert contents(pack_rows(rows)) == expected(rows)
    with StoreWriter(folder) as writer:
        for chunk in chunks:
            writer.add(pack_rows(chunk))
        writer.finish({"said": "of it"})
    found = open_store(folder)
    if not rows:
        assert found is None, "a store of no rows is none"
        return
    assert found is not None
    store, entry = found
    assert contents(store) == expected(rows)
    assert entry["account"] == {"said": "of it"}
    assert entry["highest_token"] == max(int(row.input_ids.max()) for _, _, row in rows)


def row_of(*tokens: int, label_type: type[Any] = np.int32) -> Numbered:
    ids = np.array(tokens, np.int32)
    return 0, 1, TokenizedRow(ids, ids.astype(label_type), 1, 0, True, len(tokens))


def test_the_same_tokens_have_the_same_content_and_others_another() -> None:
    store = pack_rows([row_of(1, 2), row_of(1, 2), row_of(2, 1), row_of(1, 2, 0)])
    first, same, *others = store.rows["content"].tolist()
    assert first == same
    assert len({first, *others}) == 3


def test_equal_rows_are_equal_bytes() -> None:
    # in a gap between its fields, a copy holds what the memory held before
    assert ROW.itemsize == sum(ROW[name].itemsize for name in ROW.names or ())


def test_what_is_not_finished_is_no_store(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as writer:
        writer.add(pack_rows([row_of(1, 2)]))
    assert open_store(tmp_path) is None


def test_labels_of_two_types_are_our_own_mistake(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as writer:
        writer.add(pack_rows([row_of(1, 2)]))
        with pytest.raises(AssertionError, match="labels of one source are of one type"):
            writer.add(pack_rows([row_of(1, 2, label_type=np.float32)]))
