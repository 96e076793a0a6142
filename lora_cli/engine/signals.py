"""SIGINT and SIGTERM: they stop a run between two steps, or break off what comes after the last.

A second signal of the same kind always acts as it would without this module.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lora_cli.errors import InterruptedRunError

NOTED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Give a list that signals are added to, so that no step is broken off in the middle."""
    received: list[int] = []
    with _handled_by(received.append):
        yield received


@contextmanager
def signals_raised(step: int) -> Iterator[None]:
    """Let a signal raise `interrupted`: what is being done can be done again from a checkpoint.

    Raises:
        InterruptedRunError: a signal came.
    """

    def stop(number: int) -> None:
        raise interrupted(number, step)

    with _handled_by(stop):
        yield


@contextmanager
def _handled_by(handle: Callable[[int], None]) -> Iterator[None]:
    """Let `handle` have each signal once. Outside the main thread, Python gives no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in NOTED}

    def once(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        handle(number)

    for number in NOTED:
        signal.signal(number, once)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted(number: int, step: int) -> InterruptedRunError:
    """Return the error for a run that a signal stopped after `step`, its checkpoint written."""
    message = f"{signal.Signals(number).name} after step {step}; a checkpoint is written"
    hint = "go on with the same command and --resume"
    return InterruptedRunError(message, hint, signal_number=number)
