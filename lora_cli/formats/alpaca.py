"""Alpaca's rows: an instruction, perhaps with an input, and the output that follows it.

They become conversations, since that is what an instruct model has learnt to read.
"""

from __future__ import annotations

from typing import Any

from lora_cli.formats.examples import Conversation, Message
from lora_cli.formats.row_format import Cells, Column, RowFormat, RowProblemError


def _conversation(cells: Cells) -> Conversation:
    """Return system turn and earlier turns, the instruction with its input, and the output."""
    asked, given = cells.text("instruction"), cells.optional_text("input")
    system = cells.optional_text("system")
    return Conversation(
        (
            *((Message("system", system),) if system else ()),
            *_earlier(cells.value("history"), cells.name("history")),
            Message("user", f"{asked}\n\n{given}" if given else asked),
            Message("assistant", cells.text("output")),
        )
    )


def _earlier(history: Any, column: str) -> list[Message]:
    turns: list[Message] = []
    if history and not isinstance(history, list):
        raise RowProblemError(f"column `{column}` must be a list of [question, answer] pairs")
    for number, pair in enumerate(history or [], 1):
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_said, pair))):
            message = f"entry {number} of column `{column}` is not a pair of texts"
            raise RowProblemError(f"{message}: write [question, answer]")
        turns += [Message("user", pair[0]), Message("assistant", pair[1])]
    return turns


def _is_said(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


FORMAT = RowFormat(
    name="alpaca",
    kind=Conversation,
    columns=(
        Column("instruction"),
        Column("output", ("response",)),
        Column("input", ("context",), optional=True),
        Column("system", ("system_prompt",), optional=True),
        Column("history", optional=True),
    ),
    read=_conversation,
)
"""`{"instruction": …, "input": …, "output": …}`, with optional `system` and `history`."""
