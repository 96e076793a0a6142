"""A JSON document → its values one after the other, with only some of its text in memory."""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder
from typing import Any, TextIO

from lora_cli.data.readers.raw_row import LONGEST_ROW

PIECE = 1 << 20
"""Characters that are read at once."""
_space = re.compile(r"[ \t\r\n]*").match


class JsonDocument:
    """The text of a document and a position in it, which only moves on.

    Bytes that are no UTF-8 are surrogates in the text; `suspicious` says that there may be some,
    or escapes of half a character or of none.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.longest = LONGEST_ROW
        self._text = ""
        self._at = 0
        self._line_start = 0
        self.line = 1
        self.suspicious = False

    @property
    def column(self) -> int:
        """Return the position's column in its line, from 1."""
        return self._at - self._line_start + 1

    def peek(self) -> str:
        """Return the next character that is no white space, and move to it; `""` at the end."""
        while True:
            space = _space(self._text, self._at)
            assert space is not None, "no white space is a match as well"
            self._move(space.end())
            if self._at < len(self._text) or not self._read_on():
                return self._text[self._at : self._at + 1]

    def skip(self) -> None:
        """Move over one character."""
        self._move(self._at + 1)

    def take(self, decoder: JSONDecoder) -> tuple[Any, str]:
        """Return the value at the position and its text, and move behind it.

        Raises:
            JSONDecodeError: there is none; `place_of` says where.
            ValueError: the decoder refuses it, or it is too long; the position stays.
        """
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except JSONDecodeError as error:
                if not (self._may_be_cut(error) and self._read_on()):
                    raise
                continue
            # a number may go on in what has not been read
            if end < len(self._text) or not self._read_on():
                source = self._text[self._at : end] if self.suspicious else ""
                self._move(end)
                return value, source

    def place_of(self, error: JSONDecodeError) -> tuple[int, int]:
        """Return line and column of an error that `take` or `fail` raised."""
        before = self._text[: error.pos]
        newlines = before.count("\n", self._at)
        start = before.rfind("\n") + 1 if newlines else self._line_start
        return self.line + newlines, error.pos - start + 1

    def after(self, error: JSONDecodeError) -> str:
        """Return the rest of the line in which an error stands."""
        return self._text[error.pos :].partition("\n")[0].strip()

    def fail(self, message: str) -> JSONDecodeError:
        """Return the error that the document goes wrong at the position."""
        return JSONDecodeError(message, self._text, self._at)

    @staticmethod
    def is_cut_off(error: JSONDecodeError) -> bool:
        """Return whether the document ends where more of it was due."""
        return error.msg.startswith("Unterminated string") or not error.doc[error.pos :].strip()

    def _may_be_cut(self, error: JSONDecodeError) -> bool:
        near_the_end = error.pos > len(self._text) - 16
        return near_the_end or error.msg.startswith("Unterminated string")

    def _read_on(self) -> bool:
        """Read more, at least as much again as is waiting; return whether there was any."""
        waiting = len(self._text) - self._at
        if waiting > self.longest:
            raise ValueError(f"one value of over {self.longest >> 20} MB")
        more = self._file.read(max(PIECE, waiting))
        if more:
            self._text = self._text[self._at :] + more
            self._line_start -= self._at
            self._at = 0
            self.suspicious = _is_suspicious(self._text)
        return bool(more)

    def _move(self, to: int) -> None:
        newlines = self._text.count("\n", self._at, to)
        if newlines:
            self.line += newlines
            self._line_start = self._text.rfind("\n", self._at, to) + 1
        self._at = to


def _is_suspicious(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return any(escape in text for escape in ("\\ud", "\\uD", "\\u0000"))
