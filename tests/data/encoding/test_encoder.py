"""Every encoder can be sent to another process, and says there what it says here."""

from __future__ import annotations

import pickle

import numpy as np

from lora_cli.data.encoding.encoder import Encoder, ManyRowsEncoder, encode_all_of
from lora_cli.data.encoding.tokenize import Tokenizer
from lora_cli.formats import Conversation, Example, Message, Pair, PlainText
from tests.helpers.letters import Letters
from tests.helpers.tiny_models import make_tokenizer

EXAMPLES = (
    Pair("Q: ", "yes"),
    PlainText("some words " * 20),
    Conversation((Message("user", "Hello?"), Message("assistant", "Hello."))),
)


def rows_of(encoder: Encoder, example: Example) -> list[tuple[list[int], list[int]]]:
    rows = encode_all_of(encoder)(example, None)
    return [(row.input_ids.tolist(), row.labels.tolist()) for row in rows]


def test_a_tokenizer_says_the_same_in_another_process() -> None:
    here = Tokenizer(make_tokenizer(), max_length=64)
    there = pickle.loads(pickle.dumps(here))
    assert there.fingerprint == here.fingerprint
    for example in EXAMPLES:
        assert rows_of(there, example) == rows_of(here, example)


def test_an_encoder_of_one_row_is_one_of_many() -> None:
    letters = Letters()
    assert not isinstance(letters, ManyRowsEncoder)
    (row,) = encode_all_of(letters)(EXAMPLES[0], "S")
    assert np.array_equal(row.input_ids, np.frombuffer(b"SQ: yes", np.uint8))


def test_a_long_text_is_several_rows() -> None:
    assert len(rows_of(Tokenizer(make_tokenizer(), max_length=64), EXAMPLES[1])) > 1
