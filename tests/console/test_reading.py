"""How far the reading of rows is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lora_cli.console.reading import reading_text, shown_in
from lora_cli.console.train import TrainingView
from lora_cli.events import RowsRead, Stage


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (RowsRead(200, 1000, 0.1), "200 of about 1,000 rows, 2,000 rows/s, 0:00 left"),
        (RowsRead(1200, 120_000, 2.0), "1,200 of about 120,000 rows, 600 rows/s, 3:18 left"),
        (RowsRead(1200, 1000, 2.0), "1,200 of about 1,200 rows, 600 rows/s, 0:00 left"),
        (RowsRead(1200, None, 2.0), "1,200 rows, 600 rows/s"),
        (RowsRead(0, 9, 0.0), "0 of about 9 rows"),
    ],
)
def test_rows_speed_and_time_left(event: RowsRead, text: str) -> None:
    assert reading_text(event).startswith(text)


def terminal() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=True, width=100, highlight=False), text


def test_a_plan_shows_it_behind_what_it_does() -> None:
    console, _ = terminal()
    status = console.status("planning …")
    listen = shown_in(status, "planning …")
    listen(Stage("reading the data"))
    assert status.status == "planning …"
    listen(RowsRead(1200, None, 2.0))
    assert status.status == "planning … 1,200 rows, 600 rows/s"


def test_training_shows_it_until_the_next_stage() -> None:
    console, text = terminal()
    with TrainingView(console) as view:
        view(RowsRead(1200, None, 2.0))
        view._live.refresh()
        assert "reading 1,200 rows, 600 rows/s" in text.getvalue()
        view(Stage("loading the base model"))
        before = len(text.getvalue())
        view._live.refresh()
        assert "reading" not in text.getvalue()[before:]


def test_without_a_terminal_nothing_is_drawn() -> None:
    text = io.StringIO()
    with TrainingView(Console(file=text)) as view:
        view(RowsRead(1200, None, 2.0))
    assert not text.getvalue().strip()
