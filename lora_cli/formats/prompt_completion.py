"""Rows of two columns: `prompt` is given, `completion` is learnt."""

from __future__ import annotations

from lora_cli.formats.examples import Pair
from lora_cli.formats.row_format import Row, text_column


class PromptCompletion:
    """`{"prompt": …, "completion": …}`: plain text, no chat template."""

    columns = frozenset({"prompt", "completion"})

    def example(self, row: Row) -> Pair:
        """Return the pair as it stands, white space included."""
        return Pair(prompt=text_column(row, "prompt"), completion=text_column(row, "completion"))
