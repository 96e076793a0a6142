"""Pieces of a text → the tokens of each.

Inference tokenizes what comes before an answer without it, and so does this: where the whole text
would merge across a border, the next piece is tokenized on its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_cli.formats import RowProblemError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenIds = list[int]
ANCHORS = ("\n", "=", "a.", "a")
"""Texts to read a piece after, so that it gets no space of a text's beginning."""
THOUGHT_MARKS = frozenset(("<think>", "</think>"))
"""What begins and ends a thought, a token of its own in reasoning models."""


class PieceTokenizer:
    """Tokenizes texts whose pieces must keep their own tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        self._cuts = _cutting_tokens(tokenizer)
        longest_first = sorted(self._cuts, key=len, reverse=True)
        self._cut = re.compile("|".join(map(re.escape, longest_first))) if self._cuts else None

    def ids(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the tokens of each piece, in one call of the tokenizer where borders agree.

        Raises:
            RowProblemError: the tokenizer merges across a border, and reads the pieces
                differently apart.
        """
        return self._by_tails(texts) or self._by_whole(texts)

    def text(self, ids: TokenIds) -> str:
        """Return the text of tokens, control tokens included."""
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the tokens of each text by itself, without those that begin or end a text."""
        encoded = self._tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False
        )
        return [list(ids) for ids in encoded["input_ids"]]

    def _by_tails(self, texts: Sequence[str]) -> list[TokenIds] | None:
        """Return the pieces' tokens, each read after the last token that nothing merges across.

        None if they do not follow each other so.
        """
        tails = [""]
        for text in texts:
            tails.append(self._tail(tails[-1] + text))
        joint = self.encode([tail + text for tail, text in zip(tails, texts, strict=False)])
        pieces: list[TokenIds] = []
        before: TokenIds | None = []
        for ids, tail in zip(joint, tails[1:], strict=True):
            if before is None or ids[: len(before)] != before:
                return None
            pieces.append(ids[len(before) :])
            before = self._tail_ids(ids, tail)
        return pieces

    def _tail(self, text: str) -> str:
        """Return what of a text can still merge with what follows it."""
        places = [found.start() for found in self._cut.finditer(text)] if self._cut else []
        return text[places[-1] :] if places else text

    def _tail_ids(self, ids: TokenIds, tail: str) -> TokenIds | None:
        """Return the tokens of a tail, which are the last of `ids`; None if they are not found."""
        first = self._cut.match(tail) if self._cut else None
        if first is None:
            return ids
        cut = self._cuts[first.group()]
        return ids[len(ids) - 1 - ids[::-1].index(cut) :] if cut in ids else None

    def _by_whole(self, texts: Sequence[str]) -> list[TokenIds]:
        pieces: list[TokenIds] = []
        whole, done = "", TokenIds()
        for piece in texts:
            whole += piece
            (joint,) = self.encode([whole])
            follows = joint[: len(done)] == done
            new = joint[len(done) :] if follows else self._continued(done, piece, joint)
            pieces.append(new)
            done = done + new
        return pieces

    def _continued(self, done: TokenIds, piece: str, joint: TokenIds) -> TokenIds:
        """Return the tokens with which a piece continues others, where `joint` merges them.

        They are the piece's own, or those it has after an anchor: tokenizers such as Llama 2's
        put a space before a text, which a piece in the midst of one has not.
        """
        text = self.text(joint)
        for anchor in ("", *ANCHORS):
            before, after = self.encode([anchor, anchor + piece])
            new = after[len(before) :]
            if after[: len(before)] == before and self.text(done + new) == text:
                return new
        message = "the tokenizer merges the end of the prompt with the start of the answer"
        hint = "move the prompt's end into the completion, or name another `model.chat_template`"
        raise RowProblemError(f"{message}, and reads them differently apart; {hint}")


def _cutting_tokens(tokenizer: Any) -> dict[str, int]:
    """Return the tokens, and their ids, that a text can be cut before without changing the rest.

    A fast tokenizer looks for them before anything else, and reads what stands between two of
    them by itself; those that take in white space, or are looked for in a normalised text, are
    left out.
    """
    if not tokenizer.is_fast:
        return {}
    return {
        str(token): index
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.content and not (token.normalized or token.lstrip or token.single_word)
    }


def control_pattern(tokenizer: Any) -> re.Pattern[str] | None:
    """Return what finds the tokens that steer a model, and that a text becomes where it has them.

    Marks of a thought forge no turn, and stand in answers on purpose. None if there are no others.
    """
    added = tokenizer.added_tokens_decoder.values()
    texts = {str(token) for token in added if token.special and str(token).strip()} - THOUGHT_MARKS
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first))) if texts else None
