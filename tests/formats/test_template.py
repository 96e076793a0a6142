"""Templates in a recipe: what they make of a row, and what they refuse to guess."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.formats import (
    Conversation,
    Example,
    Message,
    Pair,
    PlainText,
    RowProblemError,
    build_format,
)
from lora_cli.formats.template import columns_read, template_problems
from tests.formats.rows import ANY_TEXT

TALK = {"user": "{{ a }}", "assistant": "{{ b }}"}


def made(row: dict[str, Any], **parts: str) -> Example:
    return build_format("template", template=parts).example(row)


def refused(row: dict[str, Any], text: str) -> str:
    with pytest.raises(RowProblemError) as caught:
        made(row, text=text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("parts", "example"),
    [
        ({"text": "{{ a }}-{{ b }}\n"}, PlainText("1-x\n")),
        ({"prompt": "Q: {{ a }}\n", "completion": " {{ b }}"}, Pair("Q: 1\n", " x")),
        (TALK, Conversation((Message("user", "1"), Message("assistant", "x")))),
        (
            {"assistant": "{{ b }}", "system": "Be.", "user": "{{ a }}"},
            Conversation(
                (Message("system", "Be."), Message("user", "1"), Message("assistant", "x"))
            ),
        ),
        ({"text": "{% if c is defined %}{{ c }}{% else %}none{% endif %}{{ b }}"},
         PlainText("nonex")),
        ({"text": "{{ c | default('-') }}{{ b }}"}, PlainText("-x")),
        ({"text": "{{ d.e[0] }}{{ d | tojson }}"}, PlainText('y{"e": ["y"]}')),
        ({"text": "{% for each in d.e %}{{ each }}.{% endfor %}"}, PlainText("y.")),
        ({"text": "{{ ['no', 'yes'][a] }}"}, PlainText("yes")),
    ],
)  # fmt: skip
def test_a_template_and_its_example(parts: dict[str, str], example: Example) -> None:
    row_format = build_format("template", template=parts)
    assert row_format.example({"a": 1, "b": "x", "d": {"e": ["y"]}}) == example
    assert row_format.kind is type(example)


@given(a=ANY_TEXT, b=ANY_TEXT, frame=st.text("[]() \n\t<>&'\"", max_size=6))
def test_text_is_written_as_it_stands(a: str, b: str, frame: str) -> None:
    text = f"{frame}{{{{ a }}}}{frame}{{{{ b }}}}.{frame}"
    assert made({"a": a, "b": b}, text=text) == PlainText(f"{frame}{a}{frame}{b}.{frame}")


def test_the_recipe_may_name_a_column_that_is_no_word() -> None:
    row_format = build_format("template", {"review": "Review Text"}, {"text": "{{ review }}"})
    assert row_format.example({"Review Text": "a"}) == PlainText("a")


@pytest.mark.parametrize(
    ("row", "text", "message"),
    [
        ({"b": 1}, "{{ a }}{{ b }}{{ c or d }}",
         ("template.text reads `a`, `c`, `d`, which this row does not have: write "
         "`{% if … is defined %}` around what may be missing")),
        ({"a": {}}, "{{ a.b }}",
         "template.text reads what this row does not hold: 'dict object' has no attribute 'b'"),
        ({"a": None}, "{{ a }}",
         "template.text prints null: write `or ''` where it may be missing"),
        ({"a": [1]}, "{{ a }}",
         "template.text prints a list: write `| join(', ')`"),
        ({"a": {"b": 1}}, "{{ a }}",
         "template.text prints a mapping: write a field of it, or `| tojson`"),
        ({"a": " "}, "{{ a }}\n", "template.text makes an empty text of this row"),
        ({"a": "x"}, "{{ a / 2 }}",
         "template.text fails on this row: unsupported operand type(s) for /: 'str' and 'int'"),
        ({"a": "x"}, "{{ a.__class__ }}",
         ("template.text fails on this row: access to attribute '__class__' of 'str' object is "
         "unsafe.")),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used(row: dict[str, Any], text: str, message: str) -> None:
    assert refused(row, text) == message


def test_a_template_changes_no_row() -> None:
    row = {"a": [1]}
    assert "template.text fails on this row" in refused(row, "{{ a.append(2) or 'x' }}")
    assert row == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("none at all {a}", {}),
        ("{{ a }} {{ b.c }}", {"a": False, "b": False}),
        ("{% if a is defined %}{{ a }}{% endif %}", {"a": True}),
        ("{{ a | default('') }}", {"a": True}),
        ("{% for x in y %}{{ x }}{{ loop.index }}{% endfor %}", {"y": False}),
        ("{% set x = a %}{{ x }}", {"a": False}),
        ("{{ range }}{{ dict }}{{ lipsum }}", {"dict": False, "lipsum": False, "range": False}),
    ],
)
def test_the_columns_that_a_template_reads(text: str, columns: dict[str, bool]) -> None:
    assert columns_read(text) == columns


BRACES = "columns are written {{ column }}"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("{{ a }}", []),
        ("{{ a }", [("is not a template: unexpected '}'", BRACES)]),
        ("{{ a | upcase }}", [("is not a template: No filter named 'upcase'.", BRACES)]),
        ("one\ntwo {{ a b }}\n",
         [("is not a template: expected token 'end of print statement', got 'b' in its line 2",
           BRACES)]),
        ("{% include 'x' %}", [("reads another file", "write all of it here")]),
        ("{% from 'x' import y %}", [("reads another file", "write all of it here")]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_template(text: str, problems: list[tuple[str, str]]) -> None:
    assert list(template_problems(text)) == problems
