"""Chat templates, well and badly behaved."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.conversation import render_pieces
from lora_cli.errors import PlanError, Where
from lora_cli.facts.tokenizer import load_tokenizer
from lora_cli.formats import Message, RowProblemError
from tests.helpers.tiny_models import make_tokenizer
from tests.helpers.tokenizers import INSTRUCT_TEMPLATE, byte_tokenizer

USER, ASSISTANT = "user", "assistant"
TOKENIZER = make_tokenizer()
FORGETS_THOUGHTS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}"
    "{{ m['content'].split('</think>')[-1] }}{% else %}{{ m['content'] }}{% endif %};{% endfor %}"
    "{% if add_generation_prompt %}> {% endif %}"
)


def turns(*contents: str) -> list[Message]:
    return [Message((USER, ASSISTANT)[index % 2], text) for index, text in enumerate(contents)]


@given(st.lists(st.text(max_size=6), min_size=2, max_size=8).filter(lambda t: len(t) % 2 == 0))
def test_the_pieces_are_the_whole_text(contents: list[str]) -> None:
    messages = turns(*contents)
    pieces = render_pieces(TOKENIZER, messages)
    plain = [{"role": m.role, "content": m.content} for m in messages]
    assert "".join(pieces) == TOKENIZER.apply_chat_template(plain, tokenize=False)
    learnt = pieces[1::2]
    assert [f"{text}<|im_end|>\n" for text in contents[1::2]] == learnt


def test_a_text_that_goes_on_after_the_last_answer_is_read() -> None:
    template = "{% for m in messages %}{{ m['content'] + ';' }}{% endfor %}"
    pieces = render_pieces(byte_tokenizer(template=template), turns("a", "b", "c"))
    assert pieces == ["a;", "b;", "c;"]


def test_a_system_prompt_stands_first() -> None:
    pieces = render_pieces(TOKENIZER, turns("a", "b"), "Be brief.")
    assert pieces[0].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na")


def test_a_system_turn_of_its_own_stays_alone() -> None:
    messages = [Message("system", "Mine."), *turns("a", "b")]
    assert "Be brief." not in "".join(render_pieces(TOKENIZER, messages, "Be brief."))


def test_an_answer_that_changes_once_the_conversation_goes_on() -> None:
    tokenizer = byte_tokenizer(template=FORGETS_THOUGHTS.replace("> ", ""))
    thinking = turns("a", "hm</think>one", "b", "two")
    with pytest.raises(RowProblemError) as caught:
        render_pieces(tokenizer, thinking)
    assert str(caught.value) == (
        "turn 2: the chat template renders the assistant's turn differently once the conversation "
        "goes on, so that no mask can be trusted"
    )
    assert render_pieces(tokenizer, thinking[:2])[1] == "hm</think>one;"


def test_a_generation_prompt_that_the_turn_does_not_begin_with() -> None:
    tokenizer = byte_tokenizer(template=FORGETS_THOUGHTS)
    with pytest.raises(RowProblemError, match="turn 2: the chat template does not begin the assis"):
        render_pieces(tokenizer, turns("a", "b"))


def test_a_template_that_leaves_the_answer_out() -> None:
    template = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(RowProblemError, match="turn 2: the chat template leaves out what the"):
        render_pieces(byte_tokenizer(template=template), turns("a", "b"))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{{ messages[0]['content'] + 1 }}", "can only concatenate str"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ unknown.field }}", "'unknown' is undefined"),
    ],
)
def test_a_template_that_fails_says_why(template: str, reason: str) -> None:
    with pytest.raises(RowProblemError, match=f"the chat template refuses it: .*{reason}"):
        render_pieces(byte_tokenizer(template=template), turns("a", "b"))


@pytest.mark.parametrize(
    ("template", "line", "reason"),
    [
        ("a\n{% for %}", 2, "Expected an expression, got 'end of statement block'"),
        ("{{ messages | no_such_filter }}", 1, "No filter named 'no_such_filter'."),
    ],
)
def test_a_template_that_is_no_jinja_is_not_the_rows_fault(
    tmp_path: Path, template: str, line: int, reason: str
) -> None:
    byte_tokenizer(template=template).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path, trust_remote_code=False)
    with pytest.raises(PlanError) as caught:
        render_pieces(tokenizer, turns("a", "b"))
    (problem,) = caught.value.problems
    assert problem.where == Where(str(tmp_path / "chat_template.jinja"), line)
    assert problem.message == f"the chat template is not valid Jinja: {reason}"
    assert problem.hint.startswith("mend the template")


def test_a_broken_template_in_the_tokenizers_config(tmp_path: Path) -> None:
    byte_tokenizer(template="a\n{% for %}").save_pretrained(tmp_path, save_jinja_files=False)
    tokenizer = load_tokenizer(tmp_path, trust_remote_code=False)
    with pytest.raises(PlanError) as caught:
        render_pieces(tokenizer, turns("a", "b"))
    (problem,) = caught.value.problems
    assert problem.where == Where(str(tmp_path / "tokenizer_config.json"))
    assert problem.message.startswith("line 2 of the chat template is not valid Jinja: Expected an")


def test_a_template_that_knows_no_system_role_drops_nothing_silently() -> None:
    tokenizer = byte_tokenizer(template=INSTRUCT_TEMPLATE)
    # this one renders a system turn as if the assistant had said it: no answer is taken for it
    pieces = render_pieces(tokenizer, turns("a", "b"), "Be brief.")
    assert pieces[1::2] == [" b<|im_end|>"]
