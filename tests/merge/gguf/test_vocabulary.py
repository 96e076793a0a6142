"""Tokenizers as GGUF has them: a name for how text is cut, and scores that make the same merges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from lora_cli.errors import ExportError
from lora_cli.merge.gguf.check import check_tokenizer
from lora_cli.merge.gguf.model import export_model
from lora_cli.merge.gguf.pre_tokenizer import KNOWN, pre_tokenizer, pre_tokenizer_name
from lora_cli.merge.gguf.sentencepiece import scores_of
from lora_cli.merge.gguf.tokenizer import begins_and_ends
from lora_cli.merge.gguf.vocabulary import read_vocabulary
from tests.helpers.gguf_models import (
    byte_level_tokenizer,
    make_gguf_source,
    sentencepiece_tokenizer,
)
from tests.helpers.tiny_models import make_tokenizer


def rules(tokenizer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return found


def pieces(name: str, text: str) -> list[str]:
    """Return the pieces of a text, as the name's rules cut it."""
    return [text[start:end] for _, (start, end) in pre_tokenizer(name).pre_tokenize_str(text)]


@pytest.mark.parametrize("name", KNOWN)
def test_a_name_is_found_by_the_rules(name: str) -> None:
    assert pre_tokenizer_name(rules(byte_level_tokenizer(name))) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-2", ["I", "'m", " 12345", "  ", " x", "!\n"]),
        ("smollm", ["I", "'m", " ", "1", "2", "3", "4", "5", "  ", " x", "!\n"]),
        ("qwen2", ["I", "'m", " ", "1", "2", "3", "4", "5", "  ", " x", "!\n"]),
        ("llama-bpe", ["I", "'m", " ", "123", "45", "  ", " x", "!\n"]),
    ],
)
def test_names_cut_digits_and_blanks_differently(name: str, expected: list[str]) -> None:
    found = pieces(name, "I'm 12345   x!\n")
    if name in ("gpt-2", "smollm"):
        expected = [*expected[:-1], "!", "\n"]
    assert found == expected


@pytest.mark.parametrize(
    "other",
    [
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.ByteLevel(use_regex=False, add_prefix_space=False),
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(False)]
        ),
        pre_tokenizers.Whitespace(),
    ],
)
def test_rules_without_a_name_are_refused(other: Any) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = other
    with pytest.raises(ExportError, match=r"no name for the way .* gpt-2, smollm, qwen2"):
        read_vocabulary(tokenizer, 999, "place")


def test_whole_pieces_are_a_part_of_the_rules() -> None:
    with pytest.raises(ExportError, match="no name for the way"):
        read_vocabulary(byte_level_tokenizer("qwen2", whole_pieces=True), 999, "place")


def test_tokens_that_swallow_blanks_are_refused() -> None:
    from tokenizers import AddedToken

    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True)])
    with pytest.raises(ExportError, match="`<mask>` has `lstrip`"):
        read_vocabulary(tokenizer, 999, "place")


def test_a_tokenizer_without_merges_is_refused_as_that() -> None:
    with pytest.raises(ExportError, match="has no merges, only single symbols"):
        read_vocabulary(make_tokenizer(), 999, "place")


def test_a_tokenizer_of_another_type_is_refused() -> None:
    from tokenizers import models

    tokenizer = byte_level_tokenizer()
    unigram = Tokenizer(models.Unigram([("a", -1.0)]))
    tokenizer._tokenizer = unigram
    with pytest.raises(ExportError, match="type Unigram is not known"):
        read_vocabulary(tokenizer, 999, "place")


def test_added_tokens_are_control_tokens_or_the_user_s() -> None:
    from gguf import TokenType

    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens(["<think>"])
    found = read_vocabulary(tokenizer, len(tokenizer), "place")
    kinds = dict(zip(found.tokens, found.types, strict=True))
    assert kinds["<think>"] == TokenType.USER_DEFINED
    assert kinds["<|im_end|>"] == TokenType.CONTROL
    assert kinds["Ġthe"] == TokenType.NORMAL


@pytest.mark.parametrize("pre", ["smollm", "llama-bpe"])
def test_a_byte_level_tokenizer_comes_back(tmp_path: Path, pre: str) -> None:
    source = make_gguf_source(tmp_path / "source", tokenizer=byte_level_tokenizer(pre))
    result = export_model(source, tmp_path / "out", None)
    assert result.texts_compared == 10


@pytest.mark.parametrize(
    ("prefix", "adds", "note"),
    [
        ("normalizer", True, None),
        ("always", True, "adds a blank before a text that begins with one"),
        ("first", True, "adds a blank after special tokens, and before"),
        ("never", False, None),
    ],
)
def test_a_sentencepiece_tokenizer_has_scores_and_a_blank(
    prefix: str, adds: bool, note: str | None
) -> None:
    from gguf import TokenType

    tokenizer = sentencepiece_tokenizer(prefix=prefix)
    found = read_vocabulary(tokenizer, len(tokenizer), "place")
    assert (found.model, found.pre, found.adds_blank) == ("llama", "default", adds)
    assert [note in each for each in found.notes] == ([True] if note else [])
    kinds = dict(zip(found.tokens, found.types, strict=True))
    assert kinds["<unk>"] == TokenType.UNKNOWN
    assert kinds["</s>"] == TokenType.CONTROL
    assert kinds["<0x0A>"] == TokenType.BYTE
    assert begins_and_ends(tokenizer) == (True, False)


def test_a_model_with_a_sentencepiece_tokenizer_comes_back(tmp_path: Path) -> None:
    source = make_gguf_source(tmp_path / "source", tokenizer=sentencepiece_tokenizer())
    result = export_model(source, tmp_path / "out", None)
    assert result.texts_compared == 6  # it has no chat template


def test_other_tokens_in_the_file_are_found(tmp_path: Path) -> None:
    source = make_gguf_source(tmp_path / "source", tokenizer=byte_level_tokenizer())
    result = export_model(source, tmp_path / "out", None)
    other = byte_level_tokenizer("qwen2")
    vocabulary = read_vocabulary(byte_level_tokenizer(), 999, "place")
    other.backend_tokenizer.model = Tokenizer.from_str(
        json.dumps({**rules(other), "model": {**rules(other)["model"], "merges": []}})
    ).model
    with pytest.raises(ExportError, match="makes other tokens of"):
        check_tokenizer(Path(result.file), other, vocabulary, [])


def test_a_tokenizer_that_adds_other_tokens_is_refused() -> None:
    from tokenizers import processors

    tokenizer = sentencepiece_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<unk> $A", special_tokens=[("<unk>", 0)]
    )
    with pytest.raises(ExportError, match="other than its begin and end token"):
        begins_and_ends(tokenizer)


def joined_by_score(text: str, scores: dict[str, float]) -> list[str]:
    """Return the tokens of a text as llama.cpp joins them: best score first, then leftmost."""
    parts = list(text)
    while True:
        pairs = [(scores.get(parts[n] + parts[n + 1]), -n) for n in range(len(parts) - 1)]
        known = [(score, place) for score, place in pairs if score is not None]
        if not known:
            return parts
        place = -max(known)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


@settings(max_examples=40, deadline=None)
@given(
    words=st.lists(st.text("abc", min_size=2, max_size=4), min_size=1, max_size=6, unique=True),
    text=st.text("abc", max_size=12),
)
def test_scores_join_what_the_merges_join(words: list[str], text: str) -> None:
    from tokenizers import models

    plain = {*"abc", *words}
    merges = [
        (word[:cut], word[cut:])
        for word in words
        for cut in range(1, len(word))
        if word[:cut] in plain and word[cut:] in plain
    ]
    vocabulary = {token: index for index, token in enumerate(sorted(plain))}
    scores = scores_of(vocabulary, merges, [])
    assert scores is not None
    # a token that overlaps itself (`aaa` of `aa` and `a`) has two merges, of which the first goes
    # first wherever it is, and the leftmost of equal scores: SentencePiece has the second
    pairs = {word for word in words if sum(a + b == word for a, b in merges) > 1}
    if not pairs:
        merged = Tokenizer(models.BPE(vocab=vocabulary, merges=merges)).encode(text).tokens
        assert joined_by_score(text, scores) == merged


def test_merges_that_no_scores_make_are_refused() -> None:
    vocabulary = {token: index for index, token in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]
    assert scores_of(vocabulary, merges, []) is not None
    # one merge less than the vocabulary allows, and one token made twice with another between
    assert scores_of(vocabulary, merges[:-1], []) is None
    twice = [("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")]
    assert scores_of(vocabulary, twice, []) is None
