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
    also_learnt: Spans = ()
    """What is learnt around the answers."""

    @property
    def pieces(self) -> list[Piece]:
        """Return the text in pieces, none of them empty."""
        answers = [(*span, n not in self.read_only, True) for n, span in enumerate(self.answers)]
        others = [(*span, True, False) for span in self.also_learnt]
        pieces, done = [], 0
        for start, end, learnt, is_answer in sorted([*answers, *others]):
            pieces.append(Piece(self.text[done:start], learnt=False))
            pieces.append(Piece(self.text[start:end], learnt=learnt, is_answer=is_answer))
            done = end
        pieces.append(Piece(self.text[done:], learnt=False))
        return [piece for piece in pieces if piece.text]
