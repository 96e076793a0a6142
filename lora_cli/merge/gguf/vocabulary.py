"""A tokenizer as GGUF describes it: tokens, their types, and merges or scores.

Two kinds are known: BPE over bytes, as GPT-2, Llama 3 and Qwen have it, and SentencePiece's BPE
with bytes to fall back to, as Llama 2 and Mistral have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lora_cli.errors import ExportError
from lora_cli.merge.gguf.pre_tokenizer import KNOWN, pre_tokenizer_name, steps_of
from lora_cli.merge.gguf.sentencepiece import BYTES, adds_blank, notes_on_blanks, scores_of

if TYPE_CHECKING:
    from gguf import TokenType

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Vocabulary:
    """What llama.cpp needs to tokenize as the model was trained to read."""

    model: str
    """`gpt2` for BPE over bytes, `llama` for SentencePiece's."""
    pre: str
    """How text is cut before merging, by llama.cpp's name."""
    tokens: list[str]
    types: list[TokenType]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    adds_blank: bool | None = None
    """Whether a text begins with a blank of its own; None for BPE over bytes."""
    notes: list[str] = field(default_factory=list)


def read_vocabulary(tokenizer: Any, size: int, place: str) -> Vocabulary:
    """Return a tokenizer's vocabulary, filled up to the `size` rows of the embedding.

    Raises:
        ExportError: GGUF could not say what the tokenizer does.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError("has no tokenizer.json, which is what is read", place)
    rules = json.loads(backend.to_str())
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    if (highest := max(vocabulary.values())) >= size:
        message = f"the tokenizer has token {highest}, the embedding {size} rows"
        raise ExportError(message, place, "resize the model's embedding to its tokenizer")
    _check_added_tokens(rules, place)
    model = rules["model"]
    if model["type"] != "BPE":
        hint = "known are BPE over bytes, and SentencePiece's BPE"
        raise ExportError(f"a tokenizer of type {model['type']} is not known", place, hint)
    if not model["merges"]:
        hint = "llama.cpp reads no vocabulary of BPE without them"
        raise ExportError("the tokenizer has no merges, only single symbols", place, hint)
    make = _sentencepiece if model.get("byte_fallback") else _byte_level
    return make(rules, vocabulary, size, place)


def _check_added_tokens(rules: Json, place: str) -> None:
    for token in rules["added_tokens"]:
        for key in ("lstrip", "rstrip", "single_word"):
            if token[key]:
                message = (
                    f"the token `{token['content']}` has `{key}`, which the file could not say"
                )
                raise ExportError(message, place)


def _byte_level(rules: Json, vocabulary: Mapping[str, int], size: int, place: str) -> Vocabulary:
    name = pre_tokenizer_name(rules)
    normalizers = [step["type"] for step in steps_of(rules.get("normalizer"))]
    if name is None or normalizers not in ([], ["NFC"]):
        message = "llama.cpp has no name for the way in which the tokenizer cuts text"
        raise ExportError(message, place, f"known are those of {', '.join(KNOWN)}")
    notes = ["the tokenizer normalises text to NFC; llama.cpp does not"] if normalizers else []
    tokens, types = _tokens(rules, vocabulary, size)
    return Vocabulary("gpt2", name, tokens, types, merges=_merges(rules), notes=notes)


def _sentencepiece(rules: Json, vocabulary: Mapping[str, int], size: int, place: str) -> Vocabulary:
    blank = adds_blank(rules)
    if blank is None:
        raise ExportError("llama.cpp does not treat blanks as the tokenizer does", place)
    if lost := [token for token in BYTES if token not in vocabulary]:
        raise ExportError(f"the tokenizer has no token for the byte {lost[0]}", place)
    added = {token["content"] for token in rules["added_tokens"]}
    merges = [(left, right) for left, right in (merge.split(" ") for merge in _merges(rules))]
    scores = scores_of(vocabulary, merges, added | set(BYTES))
    if scores is None:
        raise ExportError("no scores of tokens say what the tokenizer's merges do", place)
    tokens, types = _tokens(rules, vocabulary, size)
    lowest = min(scores.values())
    return Vocabulary(
        "llama",
        "default",
        tokens,
        types,
        scores=[scores.get(token, lowest) for token in tokens],
        adds_blank=blank,
        notes=notes_on_blanks(rules),
    )


def _merges(rules: Json) -> list[str]:
    """Return the merges as `left right`; tokenizer.json has them so, or as pairs."""
    return [
        merge if isinstance(merge, str) else " ".join(merge) for merge in rules["model"]["merges"]
    ]


def _tokens(
    rules: Json, vocabulary: Mapping[str, int], size: int
) -> tuple[list[str], list[TokenType]]:
    """Return tokens and types by id; rows that no token has are named, and never produced."""
    from gguf import TokenType

    tokens = [f"[PAD{index}]" for index in range(size)]
    types = [TokenType.UNUSED] * size
    special = {token["content"]: token["special"] for token in rules["added_tokens"]}
    unknown = rules["model"].get("unk_token")
    is_bytes = bool(rules["model"].get("byte_fallback"))
    for token, index in vocabulary.items():
        kind = TokenType.NORMAL
        if is_bytes and token == unknown:
            kind = TokenType.UNKNOWN
        elif token in special:
            kind = TokenType.CONTROL if special[token] else TokenType.USER_DEFINED
        elif is_bytes and token in BYTES:
            kind = TokenType.BYTE
        tokens[index], types[index] = token, kind
    return tokens, types
