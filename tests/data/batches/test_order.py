"""The order of rows: whole, repeatable, and the same for any number of processes."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.batches.order import BatchOrder
from lora_cli.data.batches.units import Mixing, units_of


def lengths_of(rows: int) -> Any:
    return np.random.default_rng(rows).integers(1, 200, rows).astype(np.int32)


def row_order(
    rows: int,
    batch_size: int,
    accumulation: int,
    processes: int,
    seed: int,
    *,
    by_length: bool = False,
) -> BatchOrder:
    """Return the order of single rows of different lengths."""
    units = units_of(lengths_of(rows), [rows])
    return BatchOrder(units, batch_size, accumulation, processes, seed, by_length=by_length)


ORDERS = st.builds(
    row_order,
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 7),
    accumulation=st.integers(1, 4),
    processes=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    by_length=st.booleans(),
)


def epoch(order: BatchOrder, number: int) -> list[int]:
    first = number * order.steps_per_epoch + 1
    steps = range(first, first + order.steps_per_epoch)
    return [row for step in steps for row in order.rows_of_step(step)]


@given(order=ORDERS, number=st.integers(0, 3))
def test_every_row_is_seen_once_an_epoch(order: BatchOrder, number: int) -> None:
    assert sorted(epoch(order, number)) == list(range(order.units.per_epoch))


@given(order=ORDERS, step=st.integers(1, 40))
def test_the_processes_share_a_step_between_them(order: BatchOrder, step: int) -> None:
    shares = [order.step(step, rank) for rank in range(order.processes)]
    rows = [row for share in shares for row in chain(*share.micro_batches)]
    assert sorted(rows) == sorted(order.rows_of_step(step))
    assert {share.epoch for share in shares} == {(step - 1) // order.steps_per_epoch}
    counts = {len(share.micro_batches) for share in shares}
    assert len(counts) == 1, "no process waits for another's backward"
    assert counts.pop() <= order.accumulation
    assert all(len(batch) <= order.batch_size for share in shares for batch in share.micro_batches)


@given(order=ORDERS, step=st.integers(1, 40))
def test_only_the_last_step_of_an_epoch_is_smaller(order: BatchOrder, step: int) -> None:
    last = step % order.steps_per_epoch == 0
    size = len(order.rows_of_step(step))
    rest = order.units.per_epoch % order.units_per_step or order.units_per_step
    assert size == (rest if last else order.units_per_step)


SHAPES = [(12, 1, 1), (1, 12, 1), (3, 2, 2), (1, 3, 4), (2, 2, 3)]
"""(batch size, accumulation, processes) of 12 units a step."""


@given(
    rows=st.integers(1, 60),
    seed=st.integers(0, 99),
    step=st.integers(1, 30),
    by_length=st.booleans(),
)
def test_the_same_rows_per_step_give_the_same_steps(
    rows: int, seed: int, step: int, by_length: bool
) -> None:
    orders = [row_order(rows, *shape, seed, by_length=by_length) for shape in SHAPES]
    assert len({order.rows_of_step(step) for order in orders}) == 1


@given(rows=st.integers(1, 60), step=st.integers(1, 20), mixed=st.booleans())
def test_packs_come_in_the_same_order_for_any_number_of_processes(
    rows: int, step: int, mixed: bool
) -> None:
    mixing = Mixing(weights=(2, 1)) if mixed and rows > 1 else Mixing()
    sources = [1, rows - 1] if rows > 1 else [rows]
    packed = units_of(lengths_of(rows), sources, pack_to=256, mixing=mixing)
    orders = [BatchOrder(packed, *shape, seed=5) for shape in SHAPES]
    assert len({order.rows_of_step(step) for order in orders}) == 1
    together = sorted(chain(*(packed.rows(unit) for unit in orders[0].units_of_step(step))))
    assert sorted(orders[0].rows_of_step(step)) == together, "a pack stays whole"


def test_rows_of_like_length_stand_together_in_random_steps() -> None:
    order = row_order(1000, 4, 2, 1, 0, by_length=True)
    lengths = lengths_of(1000)
    steps = [[int(lengths[row]) for row in order.rows_of_step(step)] for step in range(1, 126)]
    assert all(step == sorted(step, reverse=True) for step in steps)
    padding = sum(max(step) * len(step) - sum(step) for step in steps) / lengths.sum()
    plain = row_order(1000, 4, 2, 1, 0)
    rows = [[int(lengths[row]) for row in plain.rows_of_step(step)] for step in range(1, 126)]
    assert padding < 0.05 < sum(max(row) * len(row) - sum(row) for row in rows) / lengths.sum()
    longest = [step[0] for step in steps]
    rises = sum(one < other for one, other in pairwise(longest))
    assert 0.35 < rises / len(longest) < 0.65, "steps do not come by length"


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [
        row_order(50, 5, 1, 1, seed, by_length=grouped)
        for seed in (0, 1)
        for grouped in (False, True)
    ]
    seen = {tuple(epoch(order, number)) for order in orders for number in range(4)}
    assert len(seen) == 16


def test_an_order_is_the_same_in_every_version() -> None:
    """A run that is resumed years later goes on where it was: these figures never change."""
    order = row_order(rows=8, batch_size=2, accumulation=2, processes=1, seed=7)
    assert [order.step(step).micro_batches for step in (1, 2, 3)] == [
        ((7, 1), (6, 5)),
        ((4, 2), (3, 0)),
        ((6, 3), (4, 2)),
    ]
    units = units_of(np.array([5, 3, 8, 1, 9, 2, 7, 4], dtype=np.int32), [8])
    grouped = BatchOrder(units, 2, 1, 1, 7, by_length=True)
    assert [grouped.rows_of_step(step) for step in (1, 2, 3, 4)] == [
        (6, 0),
        (4, 2),
        (5, 3),
        (7, 1),
    ]


def test_the_processes_take_rows_in_turn() -> None:
    order = row_order(rows=12, batch_size=2, accumulation=2, processes=3, seed=0)
    for rank in range(3):
        rows = chain(*order.step(1, rank).micro_batches)
        assert tuple(rows) == order.rows_of_step(1)[rank::3]


def test_a_step_is_asked_for_alone() -> None:
    order = row_order(rows=11, batch_size=2, accumulation=2, processes=1, seed=0)
    in_turn = [order.step(step) for step in range(1, 10)]
    assert [order.step(step) for step in reversed(range(1, 10))] == in_turn[::-1]


@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_steps_per_epoch(rows: int, steps: int) -> None:
    assert row_order(rows, 2, 2, 1, 0).steps_per_epoch == steps
