"""Examples → token ids and labels: what is trained on and what is only read.

A row is a chain of pieces, read or learnt: what comes before an answer, the answer, what comes
before the next one. Tokens belong to their piece by construction; no offsets are trusted.
This module does not know files or batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lora_cli.data.chat.conversation import ConversationRenderer
from lora_cli.data.chat.rendering import Piece
from lora_cli.data.encoding.pieces import PieceTokenizer, TokenIds, control_pattern
from lora_cli.data.encoding.tokenized_row import (
    Limit,
    TokenizedRow,
    TokenPiece,
    row_of,
    rows_of_text,
)
from lora_cli.facts.tokenizer import chat_template_sha256, tokenizer_sha256
from lora_cli.files import sha256_of_text
from lora_cli.formats import Conversation, Example, Pair, PlainText, RowProblemError
from lora_cli.tasks.masking import Masking
from lora_cli.words import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Masking", "TokenizedRow", "Tokenizer"]

RULES = 4
"""Raised whenever this package would give other tokens or labels for the same example."""


class Tokenizer:
    """Renders and masks examples with one model's tokenizer and chat template."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, max_length: int, masking: Masking | None = None
    ) -> None:
        self._tokenizer: Any = tokenizer
        self._max_length = max_length
        self._masking = masking or Masking()
        self._pieces = PieceTokenizer(tokenizer)
        self._renderer = ConversationRenderer(
            tokenizer, loss_on=self._masking.loss_on, reasoning=self._masking.reasoning
        )
        self._prefix = self._written_before_a_text()
        self._control = control_pattern(tokenizer)
        self.fingerprint = self._fingerprint()
        """A digest of all that decides a row's tokens and labels, beside its example."""

    @property
    def has_chat_template(self) -> bool:
        """Return whether conversations can be rendered."""
        return bool(self._tokenizer.chat_template)

    @property
    def reads_clock(self) -> bool:
        """Return whether the chat template asks for the date, which is always the same here."""
        return self._renderer.reads_clock

    def control_tokens(self, example: Example) -> tuple[str, ...]:
        """Return the control tokens that are typed in a conversation's turns, each once."""
        if self._control is None or not isinstance(example, Conversation):
            return ()
        texts = (text for turn in example.messages for text in (turn.content, turn.reasoning))
        return tuple(dict.fromkeys(each for text in texts for each in self._control.findall(text)))

    def encode(self, example: Example, system_prompt: str | None = None) -> TokenizedRow:
        """Return the tokens and labels of an example that is one row.

        Raises:
            RowProblemError: it is several, or `encode_all` raises it.
            PlanError: no conversation can be rendered.
        """
        rows = self.encode_all(example, system_prompt)
        if len(rows) > 1:
            raise RowProblemError(f"it is {counted(len(rows), 'row')}, where one is asked for")
        return rows[0]

    def encode_all(self, example: Example, system_prompt: str | None = None) -> list[TokenizedRow]:
        """Return the example's tokens and labels: one row, or several.

        A long text is several, and so is a conversation whose template rewrites earlier answers.

        Raises:
            RowProblemError: it cannot be rendered so that its mask can be trusted, or nothing
                of its answers is left after cutting.
            PlanError: no conversation can be rendered.
        """
        if isinstance(example, Conversation):
            return self._conversation(example, system_prompt)
        if isinstance(example, PlainText):
            return rows_of_text(self._text(example.text), self._limit(self._end))
        assert isinstance(example, Pair), "formats of other kinds are of other tasks"
        return [self._pair(example.prompt, example.completion)]

    def prompt_of_first_answer(
        self, conversation: Conversation, system_prompt: str | None = None
    ) -> TokenIds:
        """Return the tokens that inference generates the first answer that is learnt from."""
        turn = self._renderer.first_learnt_turn(conversation)
        before = replace(conversation, messages=conversation.messages[:turn])
        text = self._renderer.prompt(before, system_prompt)
        return self._pieces.encode([text])[0]

    def text(self, ids: TokenIds) -> str:
        """Return the text of tokens, control tokens included."""
        return self._pieces.text(ids)

    @property
    def _end(self) -> int:
        return int(self._tokenizer.eos_token_id)

    def _limit(self, *stops: int) -> Limit:
        return Limit(self._max_length, self._masking.truncation, frozenset(stops))

    def _conversation(
        self, conversation: Conversation, system_prompt: str | None
    ) -> list[TokenizedRow]:
        rows = []
        ending = self._renderer.ending
        limit = self._limit(self._end, *([ending.token_id] if ending else []))
        for rendering in self._renderer.renderings(conversation, system_prompt):
            pieces = rendering.pieces
            rows.append(row_of(list(map(_token_piece, self._ids(pieces), pieces)), limit))
        return rows

    def _ids(self, pieces: Sequence[Piece]) -> list[TokenIds]:
        """Return the tokens of each piece, which between two answers are those of one text.

        Raises:
            RowProblemError: a token would reach from a piece into the next.
        """
        ids = self._pieces.ids([piece.text for piece in pieces])
        prompts = groupby(pieces, lambda piece: piece.is_answer and id(piece))
        texts = ["".join(piece.text for piece in parts) for _, parts in prompts]
        if len(texts) < len(pieces) and _joined(self._pieces.ids(texts)) != _joined(ids):
            message = "turns that are learnt and turns that are not share a token"
            raise RowProblemError(f"{message}; mark all turns between two answers alike")
        return ids

    def _pair(self, prompt: str, completion: str) -> TokenizedRow:
        """Return prompt and completion, with the tokens that a text begins and ends with."""
        given, answer = self._pieces.ids([prompt, completion])
        given = self._begun(given)
        if self._end in answer[:-1]:
            message = f"an answer holds `{self.text([self._end])}`, which ends a turn"
            raise RowProblemError(f"{message}: nothing after it would ever be generated")
        pieces = [
            TokenPiece(given, learnt=self._masking.loss_on == "everything"),
            TokenPiece(self._ended(answer), learnt=True, is_answer=True),
        ]
        return row_of(pieces, self._limit(self._end))

    def _text(self, text: str) -> TokenIds:
        return self._ended(self._begun(self._pieces.encode([text])[0]))

    def _begun(self, ids: TokenIds) -> TokenIds:
        return ids if ids[: len(self._prefix)] == self._prefix else [*self._prefix, *ids]

    def _ended(self, ids: TokenIds) -> TokenIds:
        return ids if ids[-1:] == [self._end] else [*ids, self._end]

    def _fingerprint(self) -> str:
        of_tokenizer = tokenizer_sha256(self._tokenizer)
        of_template = chat_template_sha256(self._tokenizer)
        settings = (self._max_length, self._masking.model_dump_json())
        decides = (RULES, of_tokenizer, of_template, *settings)
        return sha256_of_text(":".join(map(str, decides)))

    def _written_before_a_text(self) -> TokenIds:
        """Return the tokens that the tokenizer puts before a text, such as its begin token."""
        (plain,) = self._pieces.encode(["a"])
        full: TokenIds = list(self._tokenizer("a")["input_ids"])
        starts = (i for i in range(len(full)) if full[i : i + len(plain)] == plain)
        return full[: next(starts, 0)]


def _joined(pieces: Sequence[TokenIds]) -> TokenIds:
    return [token for ids in pieces for token in ids]


def _token_piece(ids: TokenIds, piece: Piece) -> TokenPiece:
    return TokenPiece(ids, learnt=piece.learnt, is_answer=piece.is_answer)
