"""What every row format answers: is this row mine, and what does it say.

A format knows columns, not tokens: rendering and masking are the work of `data`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; only assistant turns are trained on."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row, ready to render.

    Either a conversation for the tokenizer's chat template (`messages`), or a plain text pair
    (`prompt`, `completion`) that is trained as it stands.
    """

    messages: tuple[Message, ...] = ()
    prompt: str = ""
    completion: str = ""

    @property
    def answer(self) -> str:
        """Return the text expected after the prompt: the first answer, or the completion."""
        if self.messages:
            return next(turn.content for turn in self.messages if turn.role == "assistant")
        return self.completion


class RowProblemError(ValueError):
    """This row cannot be used; the text says why, the caller knows file and line."""


class RowFormat(Protocol):
    """One way to lay out a row."""

    @property
    def columns(self) -> Set[str]:
        """Return the columns whose presence identifies the format."""

    def example(self, row: Row) -> Example:
        """Return the row as an example.

        Raises:
            RowProblemError: a column is missing, empty or of the wrong type.
        """


def text_column(row: Row, column: str) -> str:
    """Return a column that must hold text that is not blank."""
    if column not in row:
        raise RowProblemError(f"column `{column}` is missing")
    value = row[column]
    if not isinstance(value, str):
        raise RowProblemError(f"column `{column}` holds {kind_of(value)}, not text")
    if not value.strip():
        raise RowProblemError(f"column `{column}` is empty")
    return value


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
