"""Rows of one column `text`: every token of it is learnt, as in pre-training."""

from __future__ import annotations

from lora_cli.formats.examples import PlainText
from lora_cli.formats.row_format import Cells, Column, RowFormat


def _text(cells: Cells) -> PlainText:
    return PlainText(cells.text("text"))


FORMAT = RowFormat(name="text", kind=PlainText, columns=(Column("text", ("content",)),), read=_text)
"""`{"text": …}`: continued pre-training."""
