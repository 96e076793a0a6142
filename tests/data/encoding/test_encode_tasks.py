"""Texts, words and targets as tokens and labels, written out by hand."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from lora_cli.data.encoding.encode_seq2seq import Seq2SeqEncoder
from lora_cli.data.encoding.encode_sequence_classification import SequenceClassificationEncoder
from lora_cli.data.encoding.encode_token_classification import TokenClassificationEncoder
from lora_cli.data.encoding.encoders import encoder_for
from lora_cli.data.labels import LabelReader
from lora_cli.facts.tokenizer import tokenizer_sha256
from lora_cli.formats import LabelledText, LabelledTokens, RowProblemError, SourceTarget
from lora_cli.tasks.causal_lm import CausalLm
from lora_cli.tasks.seq2seq_lm import Seq2SeqLm
from lora_cli.tasks.sequence_classification import SequenceClassification
from lora_cli.tasks.token_classification import TokenClassification
from tests.helpers.task_models import bert_tokenizer, t5_tokenizer
from tests.helpers.tiny_models import make_tokenizer

BERT = bert_tokenizer()


def texts(problem: str = "single_label", length: int = 20, tokenizer: Any = BERT) -> Any:
    labels = None if problem == "regression" else ("no", "yes", "both")
    task = SequenceClassification(name="sequence_classification", labels=labels, problem=problem)
    return SequenceClassificationEncoder(tokenizer, task, max_length=length)


def words(length: int = 20, tokenizer: Any = BERT) -> TokenClassificationEncoder:
    task = TokenClassification(name="token_classification", labels=("O", "B-X"))
    return TokenClassificationEncoder(tokenizer, task, max_length=length)


def pieces(ids: Any, tokenizer: Any = BERT) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(ids.tolist()))


def test_a_pair_of_texts_and_where_the_second_begins() -> None:
    row = texts().encode(LabelledText("ab", "yes", second_text="c"))
    assert pieces(row.input_ids) == ["[CLS]", "a", "##b", "[SEP]", "c", "[SEP]"]
    assert (row.prompt_tokens, row.labels.tolist(), row.supervised) == (4, [1], 1)


def test_one_text_is_all_first() -> None:
    row = texts().encode(LabelledText("ab", 2))
    assert (row.prompt_tokens, row.labels.tolist(), row.labels.dtype) == (4, [2], np.int32)


@pytest.mark.parametrize("length", [8, 9, 12])
def test_what_is_cut_is_counted_and_the_end_stays(length: int) -> None:
    encoder = texts(length=length)
    before = tokenizer_sha256(BERT)
    row = encoder.encode(LabelledText("a b c d e f g h i j", "no"))
    assert (row.input_ids.size, row.cut_tokens) == (length, 12 - length)
    assert pieces(row.input_ids)[-1] == "[SEP]"
    assert tokenizer_sha256(BERT) == before, "a cut leaves the tokenizer what it was"


@pytest.mark.parametrize(
    ("problem", "label", "labels", "dtype"),
    [
        ("multi_label", ("yes", "no"), [1.0, 1.0, 0.0], np.float32),
        ("multi_label", (), [0.0, 0.0, 0.0], np.float32),
        ("multi_label", "both", [0.0, 0.0, 1.0], np.float32),
        ("regression", "2.5", [2.5], np.float32),
        ("regression", 3, [3.0], np.float32),
    ],
)
def test_several_labels_and_numbers(
    problem: str, label: Any, labels: list[float], dtype: type
) -> None:
    row = texts(problem).encode(LabelledText("a", label))
    assert (row.labels.tolist(), row.labels.dtype) == (labels, dtype)
    assert row.supervised == len(labels)


@pytest.mark.parametrize(
    ("problem", "label", "reason"),
    [
        ("single_label", "perhaps", "the label `perhaps` is none of no, yes, both"),
        ("single_label", ("no", "yes"), "list of 2 labels: with `task.problem: multi_label`"),
        ("regression", "high", "`high` is no number"),
        ("regression", "nan", "`nan` is no number"),
    ],
)
def test_labels_that_are_none(problem: str, label: Any, reason: str) -> None:
    with pytest.raises(RowProblemError, match=reason):
        texts(problem).encode(LabelledText("a", label))


def test_a_tag_stands_at_the_first_token_of_its_word() -> None:
    row = words().encode(LabelledTokens(("abc", "d", "ef"), ("B-X", 0, "B-X")))
    assert pieces(row.input_ids) == ["[CLS]", "a", "##b", "##c", "d", "e", "##f", "[SEP]"]
    assert row.labels.tolist() == [-100, 1, -100, -100, 0, 1, -100, -100]
    assert row.supervised == 3


def test_words_that_are_cut_off_take_their_tags_along() -> None:
    row = words(length=8).encode(LabelledTokens(("abcde", "fg", "h"), ("O", "B-X", "O")))
    assert pieces(row.input_ids)[-2:] == ["f", "[SEP]"]
    assert (row.supervised, row.cut_tokens) == (2, 2)


def test_a_byte_tokenizer_reads_words_as_after_a_space() -> None:
    tokenizer = make_tokenizer()
    row = words(tokenizer=tokenizer).encode(LabelledTokens(("ab", "c"), ("O", "B-X")))
    assert tokenizer.decode(row.input_ids.tolist()) == " ab c"
    assert row.labels.tolist() == [0, -100, -100, 1, -100]


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (LabelledTokens(("a", "b"), ("O", "B-Y")), r"tag 2 \(`B-Y`\) is none of O, B-X"),
        (LabelledTokens(("a", "\u200b"), ("O", "O")), "word 2 .* becomes no token"),
    ],
)
def test_words_and_tags_that_cannot_be(example: LabelledTokens, reason: str) -> None:
    with pytest.raises(RowProblemError, match=reason):
        words().encode(example)


def test_a_target_has_an_end_and_each_side_is_cut_by_itself() -> None:
    tokenizer = t5_tokenizer()
    encoder = Seq2SeqEncoder(tokenizer, max_length=8)
    row = encoder.encode(SourceTarget("abcdefghij", "xyz"))
    assert tokenizer.decode(row.input_ids.tolist()) == "abcdefg</s>"
    assert tokenizer.decode(row.labels.tolist()) == "xyz</s>"
    assert (row.cut_tokens, row.supervised, row.ends) == (3, 4, True)


def test_an_end_that_the_tokenizer_does_not_write_is_written() -> None:
    tokenizer = make_tokenizer()
    row = Seq2SeqEncoder(tokenizer, max_length=8).encode(SourceTarget("a", "b"))
    assert row.labels.tolist()[-1] == tokenizer.eos_token_id


def test_a_label_reader_writes_labels_down() -> None:
    row = LabelReader().encode(LabelledTokens(("a", "b"), ("O", 3)))
    assert bytes(row.input_ids.astype(np.uint8)) == b'["O", "3"]'


def test_every_task_has_an_encoder_that_can_be_sent_to_another_process() -> None:
    tasks = (
        CausalLm(),
        SequenceClassification(name="sequence_classification", labels=("a", "b")),
        TokenClassification(name="token_classification", labels=("a", "b")),
        Seq2SeqLm(name="seq2seq_lm"),
    )
    made = [encoder_for(task, t5_tokenizer(), max_length=8) for task in tasks]
    again = [pickle.loads(pickle.dumps(encoder)) for encoder in made]
    prints = [encoder.fingerprint for encoder in made]
    assert [encoder.fingerprint for encoder in again] == prints
    assert len(set(prints)) == len(tasks)


def test_settings_are_in_the_fingerprint() -> None:
    assert texts().fingerprint == texts().fingerprint
    different = {each.fingerprint for each in (texts(), texts("multi_label"), texts(length=9))}
    assert len(different) == 3
