"""With `loss_on: everything`, what turns learn that say so themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_cli.data.chat.conversation import ConversationRenderer
from lora_cli.data.encoding.tokenize import Masking, Tokenizer
from lora_cli.formats import Conversation, Message, RowProblemError
from tests.data.templates import CHATML, LLAMA_2, LLAMA_3, VICUNA, Template
from tests.helpers.tokenizers import byte_tokenizer

CALL = {"name": "f", "arguments": {}}
SYSTEM, USER = Message("system", "Be kind."), Message("user", "a")
FIRST, SECOND = Message("assistant", "one"), Message("assistant", "two")
MARKED = replace(
    CHATML,
    text="{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\n' }}{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
)


def unlearnt(*messages: Message) -> tuple[Message, ...]:
    return tuple(replace(message, trained=False) for message in messages)


def read_only(template: Template, *messages: Message) -> list[str]:
    """Return the parts that are not learnt with `everything`."""
    renderer = ConversationRenderer(template.tokenizer(), loss_on="everything", reasoning="keep")
    (found,) = renderer.renderings(Conversation(messages))
    assert "".join(piece.text for piece in found.pieces) == found.text
    return [piece.text for piece in found.pieces if not piece.learnt]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_a_turn_of_any_role_may_be_left_out(template: Template) -> None:
    def said(role: str, content: str) -> str:
        return f"<|im_start|>{role}\n{content}<|im_end|>\n"

    heading = "<|im_start|>assistant\n"
    (system,), (user,), (second,) = unlearnt(SYSTEM), unlearnt(USER), unlearnt(SECOND)
    results = (Message("tool", "3", trained=False), Message("tool", "4"))
    asking = Message("assistant", "calls f", tool_calls=(CALL,))
    for messages, left_out in (
        ((system, USER, FIRST), [said("system", "Be kind.")]),
        ((SYSTEM, user, FIRST), [said("user", "a") + heading]),
        ((system, user, FIRST), [said("system", "Be kind.") + said("user", "a") + heading]),
        ((USER, FIRST, user, SECOND), ["\n" + said("user", "a") + heading]),
        ((USER, FIRST, USER, second), ["two<|im_end|>", "\n"]),
        ((USER, FIRST, second, USER, FIRST), ["two<|im_end|>"]),
        ((USER, asking, *results, FIRST), ["\n" + said("tool", "3")]),
    ):
        assert read_only(template, *messages) == left_out


@pytest.mark.parametrize("template", [CHATML, LLAMA_2, LLAMA_3, VICUNA])
def test_everything_without_the_other_turns_is_what_the_assistant_says(template: Template) -> None:
    turns = (SYSTEM, USER, FIRST, USER, SECOND)
    marked = [m if m.role == "assistant" else replace(m, trained=False) for m in turns]
    tokenizer = template.tokenizer()
    every, usual = (
        Tokenizer(tokenizer, max_length=999, masking=Masking(loss_on=policy)).encode(
            Conversation(tuple(messages))
        )
        for policy, messages in (("everything", marked), ("assistant", turns))
    )
    end = max(place for place, label in enumerate(usual.labels) if label >= 0) + 1
    assert every.labels[:end].tolist() == usual.labels[:end].tolist()
    assert every.input_ids.tolist() == usual.input_ids.tolist()


def test_a_border_that_the_template_does_not_show_is_not_guessed() -> None:
    message = "turns 1 and 2: only one of them is learnt, and the chat template does not show"
    for messages in ((*unlearnt(SYSTEM), USER, FIRST), (SYSTEM, *unlearnt(USER), FIRST)):
        with pytest.raises(RowProblemError, match=message):
            read_only(LLAMA_2, *messages)


def test_turns_that_share_a_token_are_not_told_apart() -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer = byte_tokenizer([(".", "a")], template=template)
    example = Conversation((*unlearnt(SYSTEM), USER, FIRST))
    encoder = Tokenizer(tokenizer, max_length=99, masking=Masking(loss_on="everything"))
    with pytest.raises(RowProblemError, match="turns that are learnt and turns that are not share"):
        encoder.encode(example)


def test_results_that_a_template_closes_together_are_not_told_apart() -> None:
    closes_last = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'tool' %}"
        "{% if loop.last or loop.nextitem['role'] != 'tool' %}]{% endif %}"
        "{% else %};{% endif %}{% endfor %}"
    )
    template = replace(CHATML, text=closes_last)
    asking, result = Message("assistant", "f?", tool_calls=(CALL,)), Message("tool", "3")
    assert read_only(template, USER, asking, *unlearnt(result, result), FIRST) == ["33]"]
    with pytest.raises(RowProblemError, match="turns 3 and 4: only one of them is learnt"):
        read_only(template, USER, asking, *unlearnt(result), result, FIRST)
