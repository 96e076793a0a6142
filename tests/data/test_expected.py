"""What a row's prompt is expected to be answered with."""

from __future__ import annotations

from typing import Any

import pytest

from lora_cli.data.chat.chat_template import read_template, stop_tokens
from lora_cli.data.encoding.tokenize import Masking, Tokenizer
from lora_cli.data.expected import expected_answer, without_thoughts
from lora_cli.data.rows import Row
from lora_cli.formats import Conversation, Example, Message, Pair
from tests.data import templates
from tests.data.chat.test_chat_templates import ONE, TWO, UNTRAINED


def expected(
    example: Example, template: Any = templates.CHATML, length: int = 4000, **masking: Any
) -> list[str]:
    tokenizer = template.tokenizer()
    encoder = Tokenizer(tokenizer, max_length=length, masking=Masking(**masking))
    rows = [Row(tokens, "", 0, 0, lambda: example) for tokens in encoder.encode_all(example)]
    stops = stop_tokens(tokenizer, read_template(tokenizer)).values()
    return [expected_answer(row, example, tokenizer, stops) for row in rows]


def test_it_is_the_first_answer_that_is_learnt() -> None:
    assert expected(Conversation(TWO)) == ["Yo"]
    assert expected(Conversation(TWO), loss_on="everything") == ["Yo"]
    assert expected(Conversation(TWO), loss_on="last_turn") == ["No. \n\nBye"]
    assert expected(Conversation(UNTRAINED)) == ["No. \n\nBye"]
    assert expected(Pair("1+1=", " 2")) == [" 2"]


def test_it_is_whole_where_the_row_is_cut() -> None:
    turns = (ONE[0], Message("assistant", "a long answer"))
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    length = len(templates.CHATML.tokenizer()(prompt)["input_ids"]) + 5
    assert expected(Conversation(turns), length=length, truncation="tokens") == ["a long answer"]


@pytest.mark.parametrize("template", [templates.QWEN, templates.DEEPSEEK])
def test_each_row_of_a_conversation_has_its_own_without_its_thoughts(template: Any) -> None:
    thinking = (
        ONE[0],
        Message("assistant", "Yo", reasoning="greet"),
        TWO[2],
        Message("assistant", "No", reasoning="refuse"),
    )
    assert expected(Conversation(thinking), template) == ["Yo", "No"]


@pytest.mark.parametrize(
    ("answer", "spoken"),
    [
        ("4", "4"),
        ("<think>\n2+2\n</think>\n\n4\n", "4\n"),
        ("2+2</think>4", "4"),
        ("<think> it never ends", "<think> it never ends"),
    ],
)
def test_what_is_said_after_thinking(answer: str, spoken: str) -> None:
    assert without_thoughts(answer) == spoken
