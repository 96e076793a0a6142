"""A conversation as a text, in pieces that are read or learnt."""

from __future__ import annotations

from dataclasses import dataclass

from lora_cli.data.chat.generation_marks import Spans


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text that is read or learnt."""

    text: str
    learnt: bool
    is_answer: bool = False


@dataclass(frozen=True, slots=True)
class Rendering:
    """A text, and the answers in it."""

    text: str
    answers: Spans
    read_only: frozenset[int] = frozenset()
    """The answers, counted from 0, that are not learnt."""
    learns_all: bool = False
    """Whether what stands around the answers is learnt too."""

    @property
    def pieces(self) -> list[Piece]:
        """Return the text in pieces, none of them empty."""
        pieces, done = [], 0
        for number, (start, end) in enumerate(self.answers):
            learnt = number not in self.read_only
            pieces.append(Piece(self.text[done:start], learnt=self.learns_all))
            pieces.append(Piece(self.text[start:end], learnt=learnt, is_answer=True))
            done = end
        pieces.append(Piece(self.text[done:], learnt=self.learns_all))
        return [piece for piece in pieces if piece.text]
