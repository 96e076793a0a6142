"""The dataset row formats, one file each; a new one is a file and a line here."""

from collections.abc import Mapping
from typing import Literal

from lora_cli.formats import (
    alpaca,
    labelled_text,
    labelled_tokens,
    messages,
    prompt_completion,
    question_answer_context,
    sharegpt,
    source_target,
    text,
)
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
from lora_cli.formats.row_format import RowFormat, RowProblemError, RowTooLongError
from lora_cli.formats.template import template_format

NamedFormat = Literal[
    "messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "question_answer_context",
    "text",
    "labelled_text",
    "labelled_tokens",
    "source_target",
    "template",
]
FormatName = Literal["auto", NamedFormat]

FORMATS: dict[str, RowFormat] = {
    each.FORMAT.name: each.FORMAT
    for each in (
        messages,
        sharegpt,
        alpaca,
        prompt_completion,
        question_answer_context,
        text,
        labelled_text,
        labelled_tokens,
        source_target,
    )
}
"""The formats that are told by their columns; that of a template is made of it."""


def build_format(
    name: str, columns: Mapping[str, str] | None = None, template: Mapping[str, str] | None = None
) -> RowFormat:
    """Return a named format for a file whose columns are called so, or that of a template."""
    row_format = template_format(template or {}) if name == "template" else FORMATS[name]
    return row_format.with_columns(columns or {})


__all__ = [
    "FORMATS",
    "Conversation",
    "Example",
    "FormatName",
    "LabelledText",
    "LabelledTokens",
    "Message",
    "NamedFormat",
    "Pair",
    "PlainText",
    "RowFormat",
    "RowProblemError",
    "RowTooLongError",
    "SourceTarget",
    "build_format",
]
