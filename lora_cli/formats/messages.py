"""Rows of one column `messages`: turns `{"role": …, "content": …}`, as OpenAI writes them.

A column `tools` beside it holds the definitions of the tools that the assistant may call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_cli.formats.examples import Conversation
from lora_cli.formats.json_text import parsed
from lora_cli.formats.row_format import Cells, Column, RowFormat
from lora_cli.formats.tools import read_tools
from lora_cli.formats.turns import list_of_turns, read_turns


def _conversation(cells: Cells) -> Conversation:
    """Return the conversation; its roles are checked, its text is left as it stands."""
    column = cells.name("messages")
    turns = list_of_turns(parsed(cells.value("messages"), f"column `{column}`"), column)
    return Conversation(read_turns(turns), read_tools(cells.value("tools"), cells.name("tools")))


def first_turn(value: Any) -> Mapping[str, Any]:
    """Return the first of a column's turns; an empty one if there is none to be seen."""
    first = value[0] if isinstance(value, list) and value else {}
    return first if isinstance(first, Mapping) else {}


def _has_roles(cells: Cells) -> bool:
    """Return whether the turns have roles, or say nothing else in a column of this name."""
    turn = first_turn(cells.value("messages"))
    return "role" in turn or ("from" not in turn and cells.name("messages") == "messages")


FORMAT = RowFormat(
    name="messages",
    kind=Conversation,
    columns=(
        Column("messages", ("conversations", "conversation")),
        Column("tools", ("functions",), optional=True),
    ),
    read=_conversation,
    recognises=_has_roles,
)
"""`{"messages": [{"role": …, "content": …}, …]}`, with optional `tools`."""
