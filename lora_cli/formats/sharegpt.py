"""ShareGPT's rows: `conversations`, a list of turns `{"from": …, "value": …}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_cli.formats.examples import Conversation
from lora_cli.formats.json_text import parsed
from lora_cli.formats.messages import first_turn
from lora_cli.formats.row_format import Cells, Column, RowFormat, RowProblemError
from lora_cli.formats.tools import read_tools
from lora_cli.formats.turns import list_of_turns, read_turns

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}


def _conversation(cells: Cells) -> Conversation:
    """Return the conversation, the column `system` as its first turn."""
    column, system = cells.name("conversations"), cells.optional_text("system")
    written = list_of_turns(parsed(cells.value("conversations"), f"column `{column}`"), column)
    turns = [_turn(turn, number) for number, turn in enumerate(written, 1)]
    if system:
        if turns[0]["role"] == "system":
            message = f"turn 1 is system, and so is column `{cells.name('system')}`"
            raise RowProblemError(f"{message}: keep one of the two")
        turns.insert(0, {"role": "system", "content": system})
    messages = read_turns(turns, first=0 if system else 1)
    return Conversation(messages, read_tools(cells.value("tools"), cells.name("tools")))


def _turn(turn: Any, number: int) -> dict[str, Any]:
    """Return a turn as OpenAI writes it; its other fields are judged there."""
    if not isinstance(turn, Mapping):
        raise RowProblemError(f"turn {number} is not a mapping with `from` and `value`")
    rest = {field: value for field, value in turn.items() if field not in ("from", "value")}
    speaker, value = turn.get("from"), turn.get("value")
    if speaker is None and "role" in turn:
        message = f"turn {number} has `role` and no `from`"
        raise RowProblemError(f"{message}: write `format: messages` under `dataset`")
    if not isinstance(speaker, str) or speaker not in ROLES:
        known = ", ".join(ROLES)
        raise RowProblemError(f"turn {number} is from {speaker!r}; known: {known}")
    if taken := [f"`{field}`" for field in ("role", "content") if rest.get(field) is not None]:
        message = f"turn {number} has {' and '.join(taken)} beside `from` and `value`"
        raise RowProblemError(f"{message}; remove what says it twice")
    if not isinstance(value, str):
        raise RowProblemError(f"turn {number} ({speaker}) has no text in `value`: write it there")
    if speaker == "function_call":
        what = f"turn {number} ({speaker})"
        return {**rest, "role": "assistant", "content": None, "tool_calls": _calls(value, what)}
    return {**rest, "role": ROLES[speaker], "content": value}


def _calls(value: str, what: str) -> Any:
    calls = parsed(value, what)
    if not isinstance(calls, list | Mapping) or not calls:
        raise RowProblemError(f'{what} is no call: write {{"name": …, "arguments": {{…}}}}')
    return calls


def _has_speakers(cells: Cells) -> bool:
    """Return whether the turns are from someone, or say nothing else in a column of this name."""
    turn = first_turn(cells.value("conversations"))
    named = cells.name("conversations") == "conversations"
    return "from" in turn or ("role" not in turn and named)


FORMAT = RowFormat(
    name="sharegpt",
    kind=Conversation,
    columns=(
        Column("conversations", ("messages", "conversation")),
        Column("system", ("system_prompt",), optional=True),
        Column("tools", optional=True),
    ),
    read=_conversation,
    recognises=_has_speakers,
)
"""`{"conversations": [{"from": …, "value": …}, …]}`, with optional `system` and `tools`."""
