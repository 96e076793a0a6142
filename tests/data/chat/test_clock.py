"""Templates that write today's date write the same one on every day."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lora_cli.data.chat.clock import TODAY, at_fixed_date, reads_clock
from lora_cli.data.encoding.tokenize import Tokenizer
from lora_cli.data.inference import compare_with_inference
from lora_cli.errors import PlanError
from lora_cli.formats import Conversation, Message
from tests.helpers.tokenizers import chat_tokenizer

TURNS = (Message("user", "Hi"), Message("assistant", "Yo"))


def dated(written: str) -> Any:
    """Return a tokenizer whose template begins with what `written` says."""
    return chat_tokenizer(
        f"{written}{{% for m in messages %}}"
        "{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )


def text_of(tokenizer: Any) -> str:
    encoder = Tokenizer(tokenizer, max_length=400)
    (row,) = encoder.encode_all(Conversation(TURNS))
    return encoder.text(row.input_ids.tolist())


@pytest.mark.parametrize(
    "form",
    ["%d %b %Y", "%Y-%m-%d %H:%M:%S", "%A, %-d %B", "100 %% of %y", "%%Y", "no day", "%j %U %p %I"],
)
def test_every_form_of_a_date_is_that_of_one_day(form: str) -> None:
    text = text_of(dated(f"{{{{ strftime_now('{form}') }}}}|"))
    assert text == f"{TODAY.strftime(form)}|user: Hi</s>assistant: Yo</s>"


def test_a_template_that_asks_whether_there_is_a_clock_has_one() -> None:
    written = (
        "{%- if strftime_now is defined %}{%- set day = strftime_now('%d %b %Y') %}"
        "{%- else %}{%- set day = 'never' %}{%- endif %}"
        "{% macro head() %}{{ day }} {{ strftime_now(format='%Y') }};{% endmacro %}{{ head() }}"
    )
    assert text_of(dated(written)).startswith("26 Jul 2024 2024;user")


@pytest.mark.parametrize("beginning", ["", "\n", "  {% if true %}\n", "  x", "{%- if true %} "])
def test_the_rest_of_the_text_stays_as_it_is(beginning: str) -> None:
    end = "{% endif %}" if "if" in beginning else ""
    written = f"{beginning}{end}{{% if false %}}{{{{ strftime_now('%Y') }}}}{{% endif %}}"
    tokenizer = dated(written)
    plain = [{"role": turn.role, "content": turn.content} for turn in TURNS]
    assert text_of(tokenizer) == tokenizer.apply_chat_template(plain, tokenize=False)


def test_the_prompt_at_inference_has_the_same_day() -> None:
    encoder = Tokenizer(dated("{{ strftime_now('%Y') }}"), max_length=400)
    assert encoder.reads_clock
    assert compare_with_inference(encoder, Conversation(TURNS)).same


def test_a_template_without_a_clock_is_left_alone() -> None:
    assert not reads_clock(None)
    assert not reads_clock({"default": "{{ messages }}"})
    assert reads_clock({"default": "", "tool_use": "{{ strftime_now('%Y') }}"})
    assert not Tokenizer(dated(""), max_length=400).reads_clock


def test_a_broken_template_is_told_with_its_own_line() -> None:
    tokenizer = dated("{{ strftime_now('%Y') }}\n{{ oops \n")
    assert at_fixed_date("x").count("\n") == 1
    with pytest.raises(PlanError, match=re.escape("not valid Jinja")) as caught:
        text_of(tokenizer)
    (problem,) = caught.value.problems
    assert "line 3 of the chat template" in problem.message
