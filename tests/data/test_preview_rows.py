"""Rows as text again: spans that put together are the row, and that say what is trained on."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.encoding.encoders import encoder_for
from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.data.preview_rows import RowReader, ShownRow
from lora_cli.data.rows import Row
from lora_cli.formats import Conversation, Example, LabelledText, LabelledTokens, SourceTarget
from lora_cli.formats import Message as Turn
from lora_cli.tasks import TaskSpec
from lora_cli.tasks.causal_lm import IGNORED, CausalLm
from lora_cli.tasks.seq2seq_lm import Seq2SeqLm
from lora_cli.tasks.sequence_classification import SequenceClassification
from lora_cli.tasks.token_classification import TokenClassification
from tests.helpers.task_models import bert_tokenizer, t5_tokenizer
from tests.helpers.tiny_models import make_tokenizer

TINY, BERT, T5 = make_tokenizer(), bert_tokenizer(), t5_tokenizer()


def metaspace_tokenizer() -> Any:
    """Return a tokenizer that leaves out the space at the start of a text, as Llama 2's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {piece: n for n, piece in enumerate(["<unk>", "</s>", "▁", "▁a", "a", "b", "▁b"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a"), ("▁", "b")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


def shown(tokenizer: Any, task: TaskSpec, tokens: TokenizedRow) -> ShownRow:
    row = Row(tokens, "rows.jsonl", 7, 0, read_example=lambda: pytest.fail("files are left alone"))
    return RowReader(tokenizer, task).row(row)


def encoded(tokenizer: Any, task: TaskSpec, example: Example) -> ShownRow:
    return shown(tokenizer, task, encoder_for(task, tokenizer, max_length=40).encode(example))


def masked(ids: list[int], mask: list[bool]) -> TokenizedRow:
    input_ids = np.array(ids, dtype=np.int32)
    labels = np.where(mask, input_ids, IGNORED).astype(np.int32)
    return TokenizedRow(input_ids, labels, 1, 0, ends=False, supervised=sum(mask[1:]))


@pytest.mark.parametrize("tokenizer", [TINY, metaspace_tokenizer(), BERT], ids=["bytes", "_", "##"])
@given(data=st.data())
def test_spans_put_together_are_the_text_however_it_is_masked(
    tokenizer: Any, data: st.DataObject
) -> None:
    text = data.draw(st.text("ab é🙂\n.'", min_size=1, max_size=12))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.all_special_ids[0]]
    size = len(ids)
    mask = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    row = shown(tokenizer, CausalLm(), masked(ids, mask))
    assert row.text == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    learnt = [span.supervised for span in row.spans for _ in range(span.tokens)]
    assert learnt == [False, *mask[1:]]
    assert sum(learnt) == row.supervised
    special = [span.special for span in row.spans for _ in range(span.tokens)]
    assert special == [token in tokenizer.all_special_ids for token in ids]


def test_a_character_of_several_tokens_is_shown_whole() -> None:
    ids = TINY("é", add_special_tokens=False)["input_ids"]
    assert len(ids) == 2
    row = shown(TINY, CausalLm(), masked([*ids, *ids], [False, True, False, False]))
    assert [span.text for span in row.spans] == ["", "é", "é"]


class Rewriting:
    """Decodes two tokens otherwise than one or three of them."""

    all_special_ids: ClassVar[list[int]] = []
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}

    def decode(self, ids: list[int], **_options: bool) -> str:
        return "?" if len(ids) == 2 else "abc"[: len(ids)]


def test_no_text_is_lost_or_doubled_whatever_a_tokenizer_does() -> None:
    row = shown(Rewriting(), CausalLm(), masked([7, 8, 9], [False, True, False]))
    assert [span.text for span in row.spans] == ["a", "", "bc"]


def test_a_conversation_shows_its_answers_and_what_ends_them() -> None:
    example = Conversation((Turn("user", "Hi"), Turn("assistant", "Yo.")))
    row = encoded(TINY, CausalLm(), example)
    assert [(span.text, span.supervised, span.special) for span in row.spans] == [
        ("<|im_start|>", False, True),
        ("user\nHi", False, False),
        ("<|im_end|>", False, True),
        ("\n", False, False),
        ("<|im_start|>", False, True),
        ("assistant\n", False, False),
        ("Yo.", True, False),
        ("<|im_end|>", True, True),
        ("\n", False, False),
    ]
    assert (row.file, row.line, row.supervised, row.ends) == ("rows.jsonl", 7, 4, True)


@pytest.mark.parametrize(
    ("problem", "label", "expected"),
    [
        ("single_label", "yes", ("yes",)),
        ("multi_label", ("both", "no"), ("no", "both")),
        ("multi_label", (), ()),
        ("regression", 2.5, ("2.5",)),
    ],
)
def test_a_classified_text_shows_its_labels(problem: Any, label: Any, expected: Any) -> None:
    names = None if problem == "regression" else ("no", "yes", "both")
    task = SequenceClassification(name="sequence_classification", labels=names, problem=problem)
    row = encoded(BERT, task, LabelledText("ab", label))
    assert row.labels == expected
    assert row.text == "[CLS] ab [SEP]"
    assert not any(span.supervised for span in row.spans)


def test_tagged_words_show_each_tag_where_it_is_learnt() -> None:
    task = TokenClassification(name="token_classification", labels=("O", "B-X"))
    row = encoded(BERT, task, LabelledTokens(("a", "b", "cd"), ("O", "O", "B-X")))
    tagged = [(span.tokens, span.label) for span in row.spans if span.supervised]
    assert tagged == [(1, "O"), (1, "O"), (1, "B-X")]
    assert row.text == "[CLS] a b cd [SEP]"
    assert row.supervised == 3


def test_a_source_shows_its_target_beside_it() -> None:
    row = encoded(T5, Seq2SeqLm(name="seq2seq_lm"), SourceTarget("Yes.", "Oui."))
    assert row.text == "Yes.</s>"
    assert [(span.text, span.supervised) for span in row.target] == [("Oui.", True), ("</s>", True)]
    assert not any(span.supervised for span in row.spans)
