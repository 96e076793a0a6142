"""Rows that are being read and tokenized: how many, how fast, how long still."""

from __future__ import annotations

from collections.abc import Callable

from rich.status import Status

from lora_cli.console.units import duration
from lora_cli.events import Event, RowsRead
from lora_cli.words import counted


def reading_text(event: RowsRead) -> str:
    """Return `12,800 of about 100,000 rows, 2,300 rows/s, 0:38 left`."""
    rate = max(event.done, 1) / max(event.seconds, 1e-3)
    rows = counted(event.done, "row")
    if event.total is None:
        return f"{rows}, {rate:,.0f} rows/s"
    total = max(event.total, event.done)
    left = duration((total - event.done) / rate)
    return f"{event.done:,} of about {counted(total, 'row')}, {rate:,.0f} rows/s, {left} left"


def shown_in(status: Status, what: str) -> Callable[[Event], None]:
    """Return a listener that writes the rows read behind `what`."""

    def listen(event: Event) -> None:
        if isinstance(event, RowsRead):
            status.update(f"{what} {reading_text(event)}")

    return listen
