"""Chat templates, well and badly behaved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.data.chat.chat_template import find_chat_template
from lora_cli.data.chat.conversation import ConversationRenderer
from lora_cli.errors import PlanError, Where
from lora_cli.facts.tokenizer import load_tokenizer
from lora_cli.formats import Conversation, Message, RowProblemError
from tests.helpers.tiny_models import make_tokenizer
from tests.helpers.tokenizers import INSTRUCT_TEMPLATE, byte_tokenizer, chat_tokenizer

USER, ASSISTANT = "user", "assistant"
TOKENIZER = make_tokenizer()
FORGETS_THOUGHTS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}"
    "{{ m['content'].split('</think>')[-1] }}{% else %}{{ m['content'] }}{% endif %};{% endfor %}"
    "{% if add_generation_prompt %}> {% endif %}"
)
STRIPS_THOUGHTS = "{% for m in messages %}{{ m['content'].split('</think>')[-1] }};{% endfor %}"
MARKS_AND_STRIPS_THOUGHTS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }};{% else %}"
    "{% generation %}{{ m['content'].split('</think>')[-1] }};{% endgeneration %}{% endif %}"
    "{% endfor %}"
)


def turns(*contents: str) -> list[Message]:
    return [Message((USER, ASSISTANT)[index % 2], text) for index, text in enumerate(contents)]


def rendered(
    tokenizer: Any, messages: Sequence[Message], system_prompt: str | None = None, **masking: Any
) -> list[list[str]]:
    """Return the pieces of each rendering, read and learnt in turn."""
    renderer = ConversationRenderer(
        tokenizer, **{"loss_on": "assistant", "reasoning": "keep", **masking}
    )
    found = renderer.renderings(Conversation(tuple(messages)), system_prompt)
    for rendering in found:
        answers = [piece for piece in rendering.pieces if piece.is_answer]
        assert [piece for piece in rendering.pieces if piece.learnt] == answers
    return [[piece.text for piece in rendering.pieces] for rendering in found]


def learnt_with_everything(tokenizer: Any, messages: Sequence[Message]) -> list[str]:
    """Return the parts of the one rendering that are learnt, where everything is."""
    renderer = ConversationRenderer(tokenizer, loss_on="everything", reasoning="keep")
    (found,) = renderer.renderings(Conversation(tuple(messages)))
    return [piece.text for piece in found.pieces if piece.learnt]


def render_pieces(
    tokenizer: Any, messages: Sequence[Message], system_prompt: str | None = None
) -> list[str]:
    (pieces,) = rendered(tokenizer, messages, system_prompt)
    return pieces


@given(st.lists(st.text(max_size=6), min_size=2, max_size=8).filter(lambda t: len(t) % 2 == 0))
def test_the_pieces_are_the_whole_text(contents: list[str]) -> None:
    messages = turns(*contents)
    pieces = render_pieces(TOKENIZER, messages)
    plain = [{"role": m.role, "content": m.content} for m in messages]
    assert "".join(pieces) == TOKENIZER.apply_chat_template(plain, tokenize=False)
    learnt = pieces[1::2]
    assert [f"{text}<|im_end|>" for text in contents[1::2]] == learnt


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


def test_an_answer_that_changes_once_the_conversation_goes_on_is_learnt_as_it_was() -> None:
    tokenizer = byte_tokenizer(template=FORGETS_THOUGHTS.replace("> ", ""))
    thinking = turns("a", "hm</think>one", "b", "two", "c", "so</think>three")
    assert rendered(tokenizer, thinking) == [
        ["a;", "hm</think>one;"],
        # the second answer has no thoughts: it stays as it is, and needs no row of its own
        ["a;one;b;", "two;", "c;", "so</think>three;"],
    ]
    assert rendered(tokenizer, thinking[:2]) == [["a;", "hm</think>one;"]]
    assert rendered(tokenizer, thinking[:4], loss_on="last_turn") == [["a;one;b;", "two;"]]


def test_a_generation_prompt_that_the_turn_does_not_begin_with() -> None:
    tokenizer = byte_tokenizer(template=FORGETS_THOUGHTS)
    with pytest.raises(RowProblemError, match="turn 2: the chat template does not begin it"):
        render_pieces(tokenizer, turns("a", "b"))


def test_a_template_that_leaves_the_answer_out() -> None:
    template = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(RowProblemError, match=r"turn 2 \(assistant\): .* leaves out its text"):
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


def test_a_content_that_a_template_changes_is_not_left_out() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: "
        "{{ m.content | tojson if m.role == 'user' else m.content | upper }};{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    pieces = render_pieces(byte_tokenizer(template=template), turns('say "a\nb"', "1 2"))
    assert pieces == ['user: "say \\"a\\nb\\"";assistant: ', "1 2;"]
    shouting = [Message("system", "be brief"), *turns("a", "1")]
    assert render_pieces(byte_tokenizer(template=template), shouting)[1] == "1;"


def test_an_answer_that_a_template_puts_elsewhere() -> None:
    template = (
        "{% for m in messages if m.role == 'assistant' %}{{ m.content }};{% endfor %}"
        "{% for m in messages if m.role == 'user' %}{{ m.content }};{% endfor %}"
        "{% if not add_generation_prompt %}.{% endif %}"
    )
    with pytest.raises(RowProblemError, match="turn 2: the chat template does not begin it with"):
        render_pieces(byte_tokenizer(template=template), turns("a", "b"))


def test_messages_decide_over_the_recipe() -> None:
    first, second = Message(ASSISTANT, "one"), Message(ASSISTANT, "two")
    for said, policy, learnt in (
        ((None, None), "assistant", ["one", "two"]),
        ((None, None), "last_turn", ["two"]),
        ((True, None), "last_turn", ["one", "two"]),
        ((False, None), "assistant", ["two"]),
        ((True, False), "last_turn", ["one"]),
    ):
        messages = (
            *turns("a"),
            Message(ASSISTANT, first.content, trained=said[0]),
            *turns("b"),
            Message(ASSISTANT, second.content, trained=said[1]),
        )
        (pieces,) = rendered(TOKENIZER, messages, loss_on=policy)
        assert [text.removesuffix("<|im_end|>") for text in pieces[1::2]] == learnt


def test_a_conversation_without_a_trained_turn_is_no_row() -> None:
    messages = (*turns("a"), Message(ASSISTANT, "one", trained=False))
    with pytest.raises(RowProblemError, match="no turn of the assistant is trained on"):
        rendered(TOKENIZER, messages)


def test_everything_is_learnt_but_what_says_no() -> None:
    messages = (*turns("a"), Message(ASSISTANT, "one", trained=False), *turns("b", "two"))
    renderer = ConversationRenderer(TOKENIZER, loss_on="everything", reasoning="keep")
    (found,) = renderer.renderings(Conversation(messages))
    assert [piece.text for piece in found.pieces if not piece.learnt] == ["one<|im_end|>"]
    assert [piece.text for piece in found.pieces if piece.is_answer] == [
        "one<|im_end|>",
        "two<|im_end|>",
    ]


def test_everything_of_a_template_that_rewrites_turns_is_no_one_text() -> None:
    tokenizer = byte_tokenizer(template=FORGETS_THOUGHTS.replace("> ", ""))
    with pytest.raises(RowProblemError, match="no one text holds everything; use"):
        rendered(tokenizer, turns("a", "hm</think>one", "b", "two"), loss_on="everything")


def test_a_turn_that_is_no_answer_is_learnt_with_everything_alone() -> None:
    messages = (Message(USER, "a", trained=True), *turns("", "one")[1:])
    message = r"turn 1 \(user\) is marked .* `loss_on: assistant` learns answers alone; remove"
    with pytest.raises(RowProblemError, match=message):
        rendered(TOKENIZER, messages)
    assert "".join(learnt_with_everything(TOKENIZER, messages)).endswith("one<|im_end|>\n")


def test_everything_without_a_learnt_answer_is_no_row() -> None:
    messages = (*turns("a"), Message(ASSISTANT, "one", trained=False))
    with pytest.raises(RowProblemError, match="no turn of the assistant is trained on"):
        learnt_with_everything(TOKENIZER, messages)


@pytest.mark.parametrize("thought", ["<think>\nso be it\n</think>\n\n", "so be it</think>"])
@pytest.mark.parametrize("template", [STRIPS_THOUGHTS, MARKS_AND_STRIPS_THOUGHTS])
def test_a_thought_in_an_answers_own_text_is_not_lost(template: str, thought: str) -> None:
    tokenizer = byte_tokenizer(template=template)
    message = "turn 2: the chat template leaves out the reasoning"
    with pytest.raises(RowProblemError, match=message):
        rendered(tokenizer, turns("a", f"{thought}one"))
    (pieces,) = rendered(tokenizer, turns("a", f"{thought}one"), reasoning="drop")
    assert "".join(pieces) == "a;one;"


def test_dropped_reasoning_leaves_the_answer() -> None:
    thinking = (*turns("a"), Message(ASSISTANT, "<think>hm</think>\n\none", reasoning="so"))
    (pieces,) = rendered(TOKENIZER, thinking, reasoning="drop")
    assert pieces[1] == "one<|im_end|>"
    empty = (*turns("a"), Message(ASSISTANT, " <think>hm</think> "))
    with pytest.raises(RowProblemError, match="turn 2: without its reasoning the answer is empty"):
        rendered(TOKENIZER, empty, reasoning="drop")


class Counted:
    """A tokenizer that counts how often its chat template is rendered."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def apply_chat_template(self, *args: Any, **more: Any) -> Any:
        self.count += 1
        return self._tokenizer.apply_chat_template(*args, **more)


@pytest.mark.parametrize(
    ("marked", "contents", "expected"),
    [(True, "ab", 1), (True, "abcdef", 1), (False, "ab", 2), (False, "abcdef", 6)],
)
def test_a_template_is_rendered_no_more_often_than_it_must_be(
    marked: bool, contents: str, expected: int
) -> None:
    tokenizer = make_tokenizer()
    if marked:
        tokenizer.chat_template = find_chat_template("chatml", Path(), Where())
    counted = Counted(tokenizer)
    renderer = ConversationRenderer(counted, loss_on="assistant", reasoning="keep")
    renderer.renderings(Conversation(tuple(turns("a", "b", "c", "d"))))
    counted.count = 0
    renderer.renderings(Conversation(tuple(turns(*contents))))
    assert counted.count == expected


def test_marks_that_leave_a_turn_out_are_not_believed() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:"
        "{% if m.role == 'assistant' and m.content | length > 3 %}{% generation %}{{ m.content }}"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %};{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer = byte_tokenizer(template=template)
    assert render_pieces(tokenizer, turns("a", "short", "b", "one"))[1::2] == ["short;", "one;"]
    assert render_pieces(tokenizer, turns("a", "short", "b", "longer"))[1::2] == ["short", "longer"]


def test_a_template_of_its_own_for_tools() -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    plain = "{% for m in messages %}{{ m.content }};{% endfor %}"
    tokenizer = chat_tokenizer(
        {"default": plain, "tool_use": "{{ tools[0].function.name }}|" + plain}
    )
    renderer = ConversationRenderer(tokenizer, loss_on="assistant", reasoning="keep")
    for tools, start in (((), ""), ((tool,), "add|")):
        (found,) = renderer.renderings(Conversation(tuple(turns("a", "b")), tools))
        assert [piece.text for piece in found.pieces] == [f"{start}a;", "b;"]


def test_named_templates_of_which_none_is_for_everyone() -> None:
    tokenizer = chat_tokenizer({"rag": "{{ messages }}", "other": "{{ messages }}"})
    with pytest.raises(RowProblemError, match=r"no chat template fits: .*'other', 'rag'"):
        render_pieces(tokenizer, turns("a", "b"))


GREETED = [Message(ASSISTANT, "Welcome"), *turns("Hi", "Yo")]


def test_an_answer_before_any_question_has_no_prompt() -> None:
    with pytest.raises(RowProblemError, match="turn 1 is an answer before any question") as caught:
        rendered(TOKENIZER, GREETED)
    assert "mark it `train: false`" in str(caught.value)
    with pytest.raises(RowProblemError, match=r"remove it, or use `training.loss_on: assistant`"):
        rendered(TOKENIZER, GREETED, loss_on="everything")


def test_a_greeting_is_read_where_it_is_not_learnt() -> None:
    unlearnt = [replace(GREETED[0], trained=False), *GREETED[1:]]
    pieces = render_pieces(TOKENIZER, unlearnt)
    assert "Welcome" in pieces[0]
    assert pieces[1] == "Yo<|im_end|>"
    assert rendered(TOKENIZER, GREETED, loss_on="last_turn") == [pieces]


def test_a_greeting_is_learnt_after_a_system_turn() -> None:
    pieces = render_pieces(TOKENIZER, GREETED, "Greet.")
    assert pieces[1] == "Welcome<|im_end|>"
