"""Signals that stop a run between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lora_cli.errors import InterruptedRunError

NOTED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Give a list that SIGINT and SIGTERM are added to, instead of breaking off a step.

    A second signal of the same kind acts as it always did. Outside the main thread, where Python
    gives no signals, the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in NOTED}

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in NOTED:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted(number: int, step: int) -> InterruptedRunError:
    """Return the error for a run that a signal stopped after `step`, its checkpoint written."""
    message = f"{signal.Signals(number).name} after step {step}; a checkpoint is written"
    hint = "go on with the same command and --resume"
    return InterruptedRunError(message, hint, signal_number=number)
