"""Rows of a text, or of two that are compared, and a label: classes, numbers, or several labels."""

from __future__ import annotations

import math
from typing import Any

from lora_cli.formats.examples import Label, LabelledText
from lora_cli.formats.row_format import Cells, Column, RowFormat, RowProblemError, kind_of


def _labelled(cells: Cells) -> LabelledText:
    """Return the text with its label; a list is several labels, an empty one none of them."""
    value, column = cells.value("label"), cells.name("label")
    label = tuple(_label(each, column) for each in value) if isinstance(value, list) else None
    return LabelledText(
        text=cells.text("text"),
        label=_label(value, column) if label is None else label,
        second_text=cells.optional_text("second_text"),
    )


def _label(value: Any, column: str) -> Label:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not value.strip():
        raise RowProblemError(f"column `{column}` has an empty label: write one, or drop the row")
    if isinstance(value, float) and not math.isfinite(value):
        raise RowProblemError(f"column `{column}` holds {value}, which is no label")
    if not isinstance(value, str | int | float):
        message = f"column `{column}` holds {kind_of(value)} where a label was due"
        raise RowProblemError(f"{message}: write text, a number, or a list of them")
    return value


FORMAT = RowFormat(
    name="labelled_text",
    kind=LabelledText,
    columns=(
        Column("text", ("sentence", "sentence1", "premise", "question1", "review")),
        Column("label", ("labels", "class")),
        Column("second_text", ("sentence2", "hypothesis", "question2"), optional=True),
    ),
    read=_labelled,
)
"""`{"text": …, "label": …}`, with a `second_text` where two are compared."""
