"""The dataset row formats, one file each; a new one is a file and a line here."""

from typing import Literal

from lora_cli.formats import messages, prompt_completion
from lora_cli.formats.examples import (
    Conversation,
    Example,
    LabelledText,
    LabelledTokens,
    Message,
    Pair,
    PlainText,
    SourceTarget,
)
from lora_cli.formats.row_format import RowFormat, RowProblemError

FormatName = Literal["auto", "messages", "prompt_completion"]

FORMATS: dict[str, RowFormat] = {
    "messages": messages.Messages(),
    "prompt_completion": prompt_completion.PromptCompletion(),
}

__all__ = [
    "FORMATS",
    "Conversation",
    "Example",
    "FormatName",
    "LabelledText",
    "LabelledTokens",
    "Message",
    "Pair",
    "PlainText",
    "RowFormat",
    "RowProblemError",
    "SourceTarget",
]
