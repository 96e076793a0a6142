"""What is learnt under ten chat templates, character for character."""

from __future__ import annotations

from typing import Any

import pytest

from lora_cli.data.encoding.tokenize import Masking, TokenizedRow, Tokenizer
from lora_cli.data.inference import compare_with_inference
from lora_cli.formats import Conversation, Message, RowProblemError
from lora_cli.tasks.causal_lm import IGNORED
from tests.data import templates
from tests.data.templates import Template

SYSTEM = Message("system", "Be brief.")
ONE = (Message("user", "Hi"), Message("assistant", "Yo"))
TWO = (*ONE, Message("user", "More?"), Message("assistant", "No. \n\nBye"))
UNTRAINED = (ONE[0], Message("assistant", "Yo", trained=False), *TWO[2:])
TOOLS = ({"type": "function", "function": {"name": "add", "parameters": {}}},)
CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}
CALLING = (
    Message("user", "1+2?"),
    Message("assistant", "", tool_calls=(CALL,), reasoning="a tool"),
    Message("tool", "3", name="add"),
    Message("assistant", "It is 3.", reasoning="so 3"),
)


def rows_of(template: Template, *turns: Message, tools: Any = (), **masking: Any) -> list[str]:
    """Return each row's text with what is learnt between ⟦ and ⟧."""
    tokenizer = template.tokenizer()
    encoder = Tokenizer(tokenizer, max_length=4000, masking=Masking(**masking))
    conversation = Conversation(turns, tools)
    return [shown(row, tokenizer) for row in encoder.encode_all(conversation)]


def shown(row: TokenizedRow, tokenizer: Any) -> str:
    pieces: list[list[int]] = [[]]
    for token, label in zip(row.input_ids.tolist(), row.labels.tolist(), strict=True):
        assert label in (token, IGNORED)
        if (label == IGNORED) == (len(pieces) % 2 == 0):
            pieces.append([])
        pieces[-1].append(token)
    texts = [tokenizer.decode(piece) for piece in pieces]
    return "".join(f"⟦{text}⟧" if number % 2 else text for number, text in enumerate(texts))


EXPECTED = {
    "llama-2": (
        templates.LLAMA_2,
        "<s>[INST] Hi [/INST]⟦ Yo </s>⟧",
        (
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]⟦ Yo </s>⟧"
            "<s>[INST] More? [/INST]⟦ No. \n\nBye </s>⟧"
        ),
        "<s>[INST] Hi [/INST] Yo </s><s>[INST] More? [/INST]⟦ No. \n\nBye </s>⟧",
    ),
    "llama-3": (
        templates.LLAMA_3,
        (
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n⟦Yo<|eot_id|>⟧"
        ),
        (
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n⟦Yo<|eot_id|>⟧"
            "<|start_header_id|>user<|end_header_id|>\n\nMore?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n⟦No. \n\nBye<|eot_id|>⟧"
        ),
        (
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nMore?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n⟦No. \n\nBye<|eot_id|>⟧"
        ),
    ),
    "chatml": (
        templates.CHATML,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Yo<|im_end|>⟧\n",
        (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n⟦Yo<|im_end|>⟧\n<|im_start|>user\nMore?<|im_end|>\n"
            "<|im_start|>assistant\n⟦No. \n\nBye<|im_end|>⟧\n"
        ),
        (
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n"
            "<|im_start|>user\nMore?<|im_end|>\n<|im_start|>assistant\n⟦No. \n\nBye<|im_end|>⟧\n"
        ),
    ),
    "mistral": (
        templates.MISTRAL,
        "<s>[INST] Hi [/INST]⟦ Yo</s>⟧",
        "Only user and assistant roles are supported!",
        "<s>[INST] Hi [/INST] Yo</s>[INST] More? [/INST]⟦ No. \n\nBye</s>⟧",
    ),
    "gemma": (
        templates.GEMMA,
        ("<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n⟦Yo<end_of_turn>⟧\n"),
        "System role not supported",
        (
            "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nYo<end_of_turn>\n"
            "<start_of_turn>user\nMore?<end_of_turn>\n"
            "<start_of_turn>model\n⟦No. \n\nBye<end_of_turn>⟧\n"
        ),
    ),
    "phi": (
        templates.PHI,
        "<|user|>\nHi<|end|>\n<|assistant|>\n⟦Yo<|end|>⟧\n<|endoftext|>",
        (
            "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n⟦Yo<|end|>⟧\n"
            "<|user|>\nMore?<|end|>\n<|assistant|>\n⟦No. \n\nBye<|end|>⟧\n<|endoftext|>"
        ),
        (
            "<|user|>\nHi<|end|>\n<|assistant|>\nYo<|end|>\n"
            "<|user|>\nMore?<|end|>\n<|assistant|>\n⟦No. \n\nBye<|end|>⟧\n<|endoftext|>"
        ),
    ),
    "zephyr": (
        templates.ZEPHYR,
        "<|user|>\nHi</s>\n<|assistant|>\n⟦Yo</s>⟧\n",
        (
            "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\n⟦Yo</s>⟧\n"
            "<|user|>\nMore?</s>\n<|assistant|>\n⟦No. \n\nBye</s>⟧\n"
        ),
        (
            "<|user|>\nHi</s>\n<|assistant|>\nYo</s>\n"
            "<|user|>\nMore?</s>\n<|assistant|>\n⟦No. \n\nBye</s>⟧\n"
        ),
    ),
    "vicuna": (
        templates.VICUNA,
        "<s>A chat between a user and an assistant. USER: Hi ASSISTANT:⟦ Yo</s>⟧",
        "<s>Be brief. USER: Hi ASSISTANT:⟦ Yo</s>⟧USER: More? ASSISTANT:⟦ No. \n\nBye</s>⟧",
        (
            "<s>A chat between a user and an assistant. USER: Hi ASSISTANT: Yo</s>"
            "USER: More? ASSISTANT:⟦ No. \n\nBye</s>⟧"
        ),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_one_question(name: str) -> None:
    template, one, _, _ = EXPECTED[name]
    assert rows_of(template, *ONE) == [one]


@pytest.mark.parametrize("name", EXPECTED)
def test_two_questions_after_a_system_turn(name: str) -> None:
    template, _, two, _ = EXPECTED[name]
    if "⟦" in two:
        assert rows_of(template, SYSTEM, *TWO) == [two]
    else:
        with pytest.raises(RowProblemError, match=two):
            rows_of(template, SYSTEM, *TWO)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_turn_that_is_not_to_be_trained_on(name: str) -> None:
    template, _, _, last = EXPECTED[name]
    assert rows_of(template, *UNTRAINED) == [last]
    assert rows_of(template, *TWO, loss_on="last_turn") == [last]


@pytest.mark.parametrize("name", EXPECTED)
def test_an_answer_is_learnt_where_it_will_be_generated(name: str) -> None:
    encoder = Tokenizer(EXPECTED[name][0].tokenizer(), max_length=4000)
    for turns in (ONE, TWO, UNTRAINED):
        found = compare_with_inference(encoder, Conversation(turns))
        assert found.same, found
        assert found.first_difference is None


def test_qwen_writes_thoughts_after_the_last_question_alone() -> None:
    thinking = (
        ONE[0],
        Message("assistant", "Yo", reasoning="greet"),
        TWO[2],
        Message("assistant", "No", reasoning="refuse"),
    )
    first = (
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\ngreet\n</think>\n\nYo<|im_end|>⟧\n"
    )
    # as it will stand when the second answer is generated: without its thought, and only read
    last = (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n"
        "<|im_start|>user\nMore?<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\nrefuse\n</think>\n\nNo<|im_end|>⟧\n"
    )
    assert rows_of(templates.QWEN, *thinking) == [first, last]
    assert rows_of(templates.QWEN, *thinking, loss_on="last_turn") == [last]
    inline = (
        ONE[0],
        Message("assistant", "<think>\ngreet\n</think>\n\nYo"),
        TWO[2],
        Message("assistant", "<think>\nrefuse\n</think>\n\nNo"),
    )
    assert rows_of(templates.QWEN, *inline) == [first, last]


def test_qwen_without_reasoning_learns_to_think_nothing() -> None:
    nothing = "<think>\n\n</think>\n\n"
    thinking = (ONE[0], Message("assistant", "<think>hm</think>Yo", reasoning="hm"))
    expected = [f"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦{nothing}Yo<|im_end|>⟧\n"]
    assert rows_of(templates.QWEN, *ONE) == expected
    assert rows_of(templates.QWEN, *thinking, reasoning="drop") == expected


def test_deepseek_thinks_where_its_prompt_says_so() -> None:
    inline = (
        ONE[0],
        Message("assistant", "<think>\ngreet\n</think>\n\nYo"),
        TWO[2],
        Message("assistant", "No", reasoning="refuse"),
    )
    first = "<s><|User|>Hi<|Assistant|><think>\n⟦greet\n</think>\n\nYo</s>⟧"
    history = "<s><|User|>Hi<|Assistant|>\n\nYo</s><|User|>More?"
    last = f"{history}<|Assistant|><think>\n⟦refuse\n</think>\n\nNo</s>⟧"
    assert rows_of(templates.DEEPSEEK, *inline) == [first, last]
    nothing = "<s><|User|>Hi<|Assistant|><think>\n⟦\n</think>\n\nYo</s>⟧"
    assert rows_of(templates.DEEPSEEK, *ONE) == [nothing]
    assert rows_of(templates.DEEPSEEK, *inline[:2], reasoning="drop") == [nothing]
    encoder = Tokenizer(templates.DEEPSEEK.tokenizer(), max_length=4000)
    assert compare_with_inference(encoder, Conversation(inline)).same


def test_qwen_with_tools_calls_and_results() -> None:
    (row,) = rows_of(templates.QWEN, SYSTEM, *CALLING, tools=TOOLS)
    assert row == (
        "<|im_start|>system\nBe brief.\n\n# Tools\n<tools>\n"
        '{"type": "function", "function": {"name": "add", "parameters": {}}}\n</tools><|im_end|>\n'
        "<|im_start|>user\n1+2?<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\na tool\n</think>\n\n"
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call><|im_end|>⟧\n'
        "<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\nso 3\n</think>\n\nIt is 3.<|im_end|>⟧\n"
    )


def test_the_odd_one_cannot_be_trusted() -> None:
    message = (
        "turn 2: the chat template does not begin it with the prompt it generates from, so that no "
        "mask can be trusted; name another with `model.chat_template`, or mark its answers with "
        "{% generation %}"
    )
    with pytest.raises(RowProblemError) as caught:
        rows_of(templates.ODD, *ONE)
    assert str(caught.value) == message


def test_the_odd_one_with_marks_is_believed() -> None:
    text = templates.ODD.text.replace(
        "{{ '[' + loop.revindex0 | string + '] ' + m['role'] + ': ' + m['content'] + '<end>\n' }}",
        "{{ '[' + loop.revindex0 | string + '] ' + m['role'] + ': ' }}"
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{% else %}{{ m['content'] }}{% endif %}{{ '<end>\n' }}",
    )
    marked = Template(text, special=("<end>",))
    assert rows_of(marked, *ONE) == ["[1] user: Hi<end>\n[0] assistant: ⟦Yo<end>⟧\n"]
    encoder = Tokenizer(marked.tokenizer(), max_length=4000)
    found = compare_with_inference(encoder, Conversation(ONE))
    assert not found.same
    assert encoder.text(found.inference[found.first_difference :]).startswith("0] user")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_template_that_knows_no_tools_is_refused_with_their_name(name: str) -> None:
    template = EXPECTED[name][0]
    with pytest.raises(RowProblemError, match="leaves out the tool `add`; name another with"):
        rows_of(template, *ONE, tools=TOOLS)


def test_what_a_template_leaves_out_is_named() -> None:
    calling = (ONE[0], Message("assistant", "", tool_calls=(CALL,)), Message("tool", "3"), ONE[1])
    with pytest.raises(RowProblemError, match="turn 2: the chat template leaves out the call of"):
        rows_of(templates.CHATML, *calling)
    with pytest.raises(RowProblemError, match=r"turn 2: .* leaves out the reasoning; name another"):
        rows_of(templates.CHATML, ONE[0], Message("assistant", "Yo", reasoning="greet"))
    silent = Template(templates.VICUNA.text.replace("messages[0]['content'] + ' '", "''"))
    with pytest.raises(RowProblemError, match=r"turn 1 \(system\): .* leaves out its text"):
        rows_of(silent, SYSTEM, *ONE)
    with pytest.raises(RowProblemError, match=r"turn 4 \(tool\): .* leaves out its text"):
        rows_of(templates.VICUNA, *ONE, TWO[2], Message("tool", "three"), ONE[1])
