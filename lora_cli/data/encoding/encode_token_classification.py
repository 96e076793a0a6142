"""Words and their tags → tokens, with each tag's number at its word's first token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.errors import PlanError
from lora_cli.facts.tokenizer import tokenizer_sha256
from lora_cli.files import sha256_of_text
from lora_cli.formats import Example, LabelledTokens, RowProblemError, RowTooLongError
from lora_cli.tasks.labels import label_number
from lora_cli.tasks.task import IGNORED
from lora_cli.tasks.token_classification import TokenClassification
from lora_cli.words import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RULES = 1
"""Raised whenever this file would give other tokens or labels for the same example."""


class TokenClassificationEncoder:
    """Tokens of words that are given one by one; `labels` is as long as `input_ids`, int32."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, task: TokenClassification, *, max_length: int
    ) -> None:
        """Take what is needed.

        Raises:
            PlanError: the tokenizer does not tell which token is of which word.
        """
        self._backend = _word_by_word(tokenizer)
        self._names = task.label_names()
        self._max_length = max_length
        settings = (RULES, tokenizer_sha256(tokenizer), task.model_dump(), max_length)
        self.fingerprint = sha256_of_text(repr(settings))

    def encode(self, example: Example, _system_prompt: str | None = None) -> TokenizedRow:
        """Return the example's tokens, cut at the longest length allowed, and the words' tags.

        Raises:
            RowProblemError: a tag is none that the task knows, or a word becomes no token.
        """
        assert isinstance(example, LabelledTokens), "other kinds are of other tasks"
        numbers = [self._number(tag, place) for place, tag in enumerate(example.tags, 1)]
        self._backend.no_truncation()
        whole = self._backend.encode(list(example.words), is_pretokenized=True)
        _check_words(example.words, whole.word_ids)
        read = whole
        if len(whole.ids) > self._max_length:
            self._backend.enable_truncation(self._max_length)
            read = self._backend.encode(list(example.words), is_pretokenized=True)
        labels = np.full(len(read.ids), IGNORED, dtype=np.int32)
        for word in dict.fromkeys(each for each in read.word_ids if each is not None):
            labels[read.word_ids.index(word)] = numbers[word]
        supervised = int((labels != IGNORED).sum())
        if not supervised:
            raise RowTooLongError(f"no word is left within {counted(self._max_length, 'token')}")
        return TokenizedRow(
            input_ids=np.array(read.ids, dtype=np.int32),
            labels=labels,
            prompt_tokens=len(read.ids),
            cut_tokens=len(whole.ids) - len(read.ids),
            ends=False,
            supervised=supervised,
        )

    def _number(self, tag: str | int, place: int) -> int:
        number = label_number(tag, self._names)
        if number is None:
            message = f"tag {place} (`{tag}`) is none of {', '.join(self._names)}"
            raise RowProblemError(message)
        return number


def _check_words(words: tuple[str, ...], word_of_token: list[int | None]) -> None:
    lost = sorted(set(range(len(words))) - set(word_of_token))
    if lost:
        message = f"word {lost[0] + 1} (`{words[lost[0]]}`) becomes no token"
        raise RowProblemError(f"{message}: remove it and its tag")


def _word_by_word(tokenizer: Any) -> Any:
    """Return the tokenizer's own rules, with every word read as one after a space."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        message = "the tokenizer does not tell which token is of which word"
        raise PlanError(message, hint="take a model with a fast tokenizer (tokenizer.json)")
    rules = json.loads(backend.to_str())
    _put_spaces(rules["pre_tokenizer"])
    rules["truncation"] = rules["padding"] = None
    return Tokenizer.from_str(json.dumps(rules))


def _put_spaces(rule: Any) -> None:
    """Let the rule put a space before each word, as there is one in a text."""
    if isinstance(rule, list):
        for each in rule:
            _put_spaces(each)
    elif isinstance(rule, dict):
        if "add_prefix_space" in rule:
            rule["add_prefix_space"] = True
        if "prepend_scheme" in rule:
            rule["prepend_scheme"] = "always"
        _put_spaces(rule.get("pretokenizers"))
