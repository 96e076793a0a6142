"""Rows of a question, its answer, and perhaps the text in which the answer is found."""

from __future__ import annotations

from lora_cli.formats.examples import Conversation, Message
from lora_cli.formats.row_format import Cells, Column, RowFormat


def _conversation(cells: Cells) -> Conversation:
    """Return the question as the user's turn, its context before it, and the answer."""
    asked, context = cells.text("question"), cells.optional_text("context")
    question = f"{context}\n\n{asked}" if context else asked
    return Conversation((Message("user", question), Message("assistant", cells.text("answer"))))


FORMAT = RowFormat(
    name="question_answer_context",
    kind=Conversation,
    columns=(
        Column("question", ("query", "problem")),
        Column("answer", ("response",)),
        Column("context", optional=True),
    ),
    read=_conversation,
)
"""`{"question": …, "answer": …}` with an optional `context`."""
