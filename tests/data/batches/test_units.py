"""Units: rows or packs, of one source each where sources are mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.batches.units import Mixing, Units, units_of
from lora_cli.errors import PlanError

SOURCES = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=20), min_size=1, max_size=4)
MIXINGS = st.sampled_from([Mixing(), Mixing(temperature=3.0), Mixing(weights=(1, 2, 3, 4))])


def made(sources: list[list[int]], pack_to: int | None, mixing: Mixing) -> Units:
    if mixing.weights:
        mixing = Mixing(weights=mixing.weights[: len(sources)])
    lengths = np.array([length for source in sources for length in source], dtype=np.int32)
    return units_of(lengths, [len(source) for source in sources], pack_to=pack_to, mixing=mixing)


@given(sources=SOURCES, pack_to=st.sampled_from([None, 30, 64]), mixing=MIXINGS)
def test_every_row_is_in_one_unit_of_its_own_source(
    sources: list[list[int]], pack_to: int | None, mixing: Mixing
) -> None:
    units = made(sources, pack_to, mixing)
    lengths = [length for source in sources for length in source]
    rows = [units.rows(unit) for unit in range(len(units.tokens))]
    assert sorted(row for unit in rows for row in unit) == list(range(len(lengths)))
    assert [sum(lengths[row] for row in unit) for unit in rows] == units.tokens.tolist()
    owner = [index for index, source in enumerate(sources) for _ in source]
    if mixing:
        assert all(len({owner[row] for row in unit}) == 1 for unit in rows)
    for index, part in enumerate(units.parts):
        owners = {owner[r] for u in range(part.first, part.first + part.count) for r in rows[u]}
        assert owners == {index}
    assert bool(units.parts) == bool(mixing)


@given(sources=SOURCES, pack_to=st.sampled_from([None, 30]), epoch=st.integers(0, 5))
def test_without_mixing_an_epoch_is_every_row_once(
    sources: list[list[int]], pack_to: int | None, epoch: int
) -> None:
    units = made(sources, pack_to, Mixing())
    taken = units.of_epoch(3, epoch)
    assert len(taken) == units.per_epoch
    rows = sorted(row for unit in taken for row in units.rows(unit))
    assert rows == list(range(sum(map(len, sources))))
    assert units.tokens_per_epoch == sum(map(sum, sources))


@pytest.mark.parametrize("pack_to", [None, 10])
def test_an_epoch_takes_each_source_by_its_weight(pack_to: int | None) -> None:
    units = made([[10] * 8, [10] * 2], pack_to, Mixing(weights=(1, 1)))
    for epoch in range(4):
        taken = units.of_epoch(0, epoch)
        assert sum(unit < 8 for unit in taken) == 5
        assert sum(unit >= 8 for unit in taken) == 5
    assert {unit for epoch in range(4) for unit in units.of_epoch(0, epoch)} == set(range(10))


def test_the_tokens_of_a_mixed_epoch_are_those_of_its_mean() -> None:
    units = made([[4, 6], [20, 40]], None, Mixing(weights=(3, 1)))
    assert units.tokens_per_epoch == 3 * 5 + 1 * 30


def test_a_source_without_rows_cannot_be_mixed_in() -> None:
    with pytest.raises(PlanError, match=r"no row is left to train on in `dataset\[1\]`"):
        made([[3], [], [4]], None, Mixing(temperature=2.0))
    assert made([[3], [], [4]], None, Mixing()).per_epoch == 2
