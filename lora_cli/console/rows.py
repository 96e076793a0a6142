"""Aligned rows: folded to a terminal's width, one line each (to grep, to diff) anywhere else."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDEST_PADDED = 48
"""Where there is no terminal, a cell longer than this pushes the next one along."""


def print_rows(console: Console, rows: Sequence[Sequence[str]], styles: Sequence[str]) -> None:
    """Print `rows`, all of as many cells as there are `styles`."""
    if console.is_terminal:
        table = Table(box=None, show_header=False, pad_edge=False)
        for style in styles:
            table.add_column(style=style, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        return
    widths = [
        min(WIDEST_PADDED, max(len(row[column]) for row in rows)) for column in range(len(styles))
    ]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(Text("  ".join(cells).rstrip()), soft_wrap=True)
