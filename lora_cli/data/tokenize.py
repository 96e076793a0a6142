"""Examples → token ids and labels: what is trained on and what is only read.

Labels are the token itself where it is supervised and IGNORED elsewhere. A token is supervised if
its text lies in an assistant's turn (or a completion), up to and including the token that ends it.
This module does not know files or batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_cli.formats import Example, Message, RowProblemError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is read but not trained on; torch's cross-entropy skips it."""


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """One row; `input_ids` and `labels` are int32 of the same length."""

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    prompt_tokens: int
    """Tokens before the first supervised one: what generation starts from."""
    cut_tokens: int
    ends: bool
    """Whether a token that ends the answer is supervised."""

    @property
    def supervised(self) -> int:
        """Return how many tokens are trained on: the first token is never predicted."""
        return int((self.labels[1:] != IGNORED).sum())


class Tokenizer:
    """Renders and masks examples with one model's tokenizer and chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> None:
        self._tokenizer: Any = tokenizer
        self._max_length = max_length
        self._special_ids = frozenset(tokenizer.all_special_ids)
        empty = self._tokenizer("")["input_ids"]
        self._prefix = [i for i in empty[:1] if i == tokenizer.bos_token_id]

    @property
    def has_chat_template(self) -> bool:
        """Return whether conversations can be rendered."""
        return bool(self._tokenizer.chat_template)

    def tokenize(self, example: Example, system_prompt: str | None = None) -> TokenizedRow:
        """Return the example's tokens and labels, cut at the longest length allowed.

        Raises:
            RowProblemError: it cannot be rendered so that its mask can be trusted, or nothing
                of its answer is left after cutting.
        """
        if example.messages:
            ids, labels = self._conversation(_with_system(example.messages, system_prompt))
        else:
            ids, labels = self._pair(example.prompt, example.completion)
        return self._row(ids, labels)

    def _row(self, ids: list[int], labels: list[int]) -> TokenizedRow:
        cut = max(0, len(ids) - self._max_length)
        kept = np.array(labels[: self._max_length], dtype=np.int32)
        supervised = np.flatnonzero(kept[1:] != IGNORED) + 1
        if not supervised.size:
            message = f"nothing of the answer is left within {self._max_length} tokens"
            raise RowProblemError(f"{message} (the row has {len(ids)})")
        return TokenizedRow(
            input_ids=np.array(ids[: self._max_length], dtype=np.int32),
            labels=kept,
            prompt_tokens=int(supervised[0]),
            cut_tokens=cut,
            ends=int(kept[supervised[-1]]) in self._special_ids,
        )

    def _pair(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Return prompt + completion + end; the prompt's tokens are those it has on its own.

        Inference tokenizes the prompt alone. Where the joint text would merge across the border,
        the two are tokenized apart, so that training sees what inference will.
        """
        alone = self._ids(prompt)
        joint = self._ids(prompt + completion)
        answer = joint[len(alone) :] if joint[: len(alone)] == alone else self._ids(completion)
        answer = [*answer, self._tokenizer.eos_token_id]
        given = [*self._prefix, *alone]
        return given + answer, [IGNORED] * len(given) + answer

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        text, spans = self._render(messages)
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = list(encoded["input_ids"])
        offsets: list[tuple[int, int]] = encoded["offset_mapping"]
        labels = [IGNORED] * len(ids)
        for start, end in spans:
            inside = [i for i, (a, b) in enumerate(offsets) if start <= a and b <= end and a < b]
            for index in self._up_to_end_of_turn(inside, ids):
                labels[index] = ids[index]
        return ids, labels

    def _up_to_end_of_turn(self, inside: list[int], ids: list[int]) -> list[int]:
        """Return the turn's tokens without the white space a template writes after its end."""
        ends = [place for place, index in enumerate(inside) if ids[index] in self._special_ids]
        return inside[: ends[-1] + 1] if ends else inside

    def _render(self, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
        """Return the conversation as text, and the character spans of the assistant's turns.

        A turn is what the template adds after the generation prompt; that holds only if earlier
        renderings are prefixes of later ones, which is checked and not assumed.
        """
        text = self._apply(messages)
        spans = []
        for number in _assistant_turns(messages):
            before = self._apply(messages[:number], add_generation_prompt=True)
            after = self._apply(messages[: number + 1])
            if not (after.startswith(before) and text.startswith(after)):
                raise RowProblemError(
                    f"turn {number + 1}: the chat template renders a conversation differently once "
                    "it goes on, so what the assistant says cannot be told apart"
                )
            spans.append((len(before), len(after)))
        return text, spans

    def _apply(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        import jinja2

        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=add_generation_prompt
                )
            )
        except jinja2.TemplateError as error:
            raise RowProblemError(f"the chat template refuses it: {error}") from error


def _assistant_turns(messages: Sequence[Message]) -> Iterator[int]:
    return (number for number, message in enumerate(messages) if message.role == "assistant")


def _with_system(messages: Sequence[Message], system_prompt: str | None) -> Sequence[Message]:
    if system_prompt is None or messages[0].role == "system":
        return messages
    return (Message("system", system_prompt), *messages)
