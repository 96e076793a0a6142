"""The order of rows: whole, repeatable, and the same for any number of processes."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.order import RowOrder

ORDERS = st.builds(
    RowOrder,
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 7),
    accumulation=st.integers(1, 4),
    processes=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)


def epoch(order: RowOrder, number: int) -> list[int]:
    first = number * order.steps_per_epoch + 1
    steps = range(first, first + order.steps_per_epoch)
    return [row for step in steps for row in order.rows_of_step(step)]


@given(order=ORDERS, number=st.integers(0, 3))
def test_every_row_is_seen_once_an_epoch(order: RowOrder, number: int) -> None:
    assert sorted(epoch(order, number)) == list(range(order.rows))


@given(order=ORDERS, step=st.integers(1, 40))
def test_the_processes_share_a_step_between_them(order: RowOrder, step: int) -> None:
    shares = [order.step(step, rank) for rank in range(order.processes)]
    rows = [row for share in shares for row in chain(*share.micro_batches)]
    assert sorted(rows) == sorted(order.rows_of_step(step))
    assert {share.epoch for share in shares} == {(step - 1) // order.steps_per_epoch}
    counts = {len(share.micro_batches) for share in shares}
    assert len(counts) == 1, "no process waits for another's backward"
    assert counts.pop() <= order.accumulation
    assert all(len(batch) <= order.batch_size for share in shares for batch in share.micro_batches)


@given(order=ORDERS, step=st.integers(1, 40))
def test_only_the_last_step_of_an_epoch_is_smaller(order: RowOrder, step: int) -> None:
    last = step % order.steps_per_epoch == 0
    size = len(order.rows_of_step(step))
    rest = order.rows % order.rows_per_step or order.rows_per_step
    assert size == (rest if last else order.rows_per_step)


@given(rows=st.integers(1, 60), seed=st.integers(0, 99), step=st.integers(1, 30))
def test_the_same_rows_per_step_give_the_same_steps(rows: int, seed: int, step: int) -> None:
    shapes = [(12, 1, 1), (1, 12, 1), (3, 2, 2), (1, 3, 4), (2, 2, 3)]
    orders = [RowOrder(rows, batch, split, count, seed) for batch, split, count in shapes]
    assert len({order.rows_of_step(step) for order in orders}) == 1


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [RowOrder(50, 5, 1, 1, seed) for seed in (0, 1)]
    seen = {tuple(epoch(order, number)) for order in orders for number in range(4)}
    assert len(seen) == 8


def test_an_order_is_the_same_in_every_version() -> None:
    """A run that is resumed years later goes on where it was: these figures never change."""
    order = RowOrder(rows=8, batch_size=2, accumulation=2, processes=1, seed=7)
    assert [order.step(step).micro_batches for step in (1, 2, 3)] == [
        ((7, 1), (6, 5)),
        ((4, 2), (3, 0)),
        ((6, 3), (4, 2)),
    ]


def test_the_processes_take_rows_in_turn() -> None:
    order = RowOrder(rows=12, batch_size=2, accumulation=2, processes=3, seed=0)
    for rank in range(3):
        rows = chain(*order.step(1, rank).micro_batches)
        assert tuple(rows) == order.rows_of_step(1)[rank::3]


def test_a_step_is_asked_for_alone() -> None:
    order = RowOrder(rows=11, batch_size=2, accumulation=2, processes=1, seed=0)
    in_turn = [order.step(step) for step in range(1, 10)]
    assert [order.step(step) for step in reversed(range(1, 10))] == in_turn[::-1]


@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_steps_per_epoch(rows: int, steps: int) -> None:
    assert RowOrder(rows, 2, 2, 1, 0).steps_per_epoch == steps
