"""Rows of two columns: `prompt` is given, `completion` is learnt."""

from __future__ import annotations

from lora_cli.formats.examples import Pair
from lora_cli.formats.row_format import Cells, Column, RowFormat


def _pair(cells: Cells) -> Pair:
    """Return the pair as it stands, white space included."""
    return Pair(prompt=cells.text("prompt"), completion=cells.text("completion"))


FORMAT = RowFormat(
    name="prompt_completion",
    kind=Pair,
    columns=(Column("prompt", ("input",)), Column("completion", ("response", "output"))),
    read=_pair,
)
"""`{"prompt": …, "completion": …}`: plain text, no chat template."""
