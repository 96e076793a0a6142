"""Marks change nothing but to be there, and stay right where templates count no characters."""

from __future__ import annotations

from typing import Any

import pytest

from lora_cli.data.chat.generation_marks import END, START, has_marks, read_marks, with_marks
from tests.helpers.tokenizers import byte_tokenizer

TURNS = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": " A "}]
LAYOUTS = [
    "{% generation %}{{ c }}{% endgeneration %}",
    "{%- generation -%} {{ c }} {%- endgeneration -%}",
    "{%generation%}{{ c }}{%endgeneration%}",
    "x\n{% generation %}\n{{ c }}\n{% endgeneration %}\ny",
    "x\n  {% generation %}\n  {{ c }}\n  {% endgeneration %}\n  y",
    "x\n  {%+ generation %}\n  {{ c }}\n  {%+ endgeneration %}\n  y",
    "x \n {%- generation +%}\n  {{ c }} {%- endgeneration +%}\n  y",
    "x {% generation -%}\n\n  {{ c }}\n\n  {% endgeneration -%}\n  y",
    "x {%- generation %}\n\n  {{ c }}\n\n  {%- endgeneration %}\n  y",
    "{% macro m(t) %}{% generation %}{{ t }}{% endgeneration %}{% endmacro %}x{{ m(c) }}y",
    "{% set t %}x{% generation %}{{ c }}{% endgeneration %}y{% endset %}before {{ t }}",
    "{% filter upper %}x{% generation %}{{ c }}{% endgeneration %}y{% endfilter %}",
]


def render(template: str) -> str:
    tokenizer: Any = byte_tokenizer(template="{% set c = messages[1].content %}" + template)
    return str(tokenizer.apply_chat_template(TURNS, tokenize=False))


@pytest.mark.parametrize("template", LAYOUTS)
def test_a_template_with_marks_renders_the_same_text(template: str) -> None:
    assert has_marks(template)
    read = read_marks(render(with_marks(template)))
    assert read is not None
    text, ((start, end),) = read
    assert text == render(template)
    assert text[start:end].strip() == "A"
    assert (text[:start].strip(" xX\n"), text[end:].strip(" yY\n")) in [("", ""), ("before", "")]


def test_a_template_without_marks_stays_as_it_is() -> None:
    template = "{% for generation in messages %}{{ generation.content }}{% endfor %}"
    assert not has_marks(template)
    assert with_marks(template) == template


@pytest.mark.parametrize(
    ("rendered", "expected"),
    [
        ("abc", ("abc", ())),
        (f"a{START}b{END}c", ("abc", ((1, 2),))),
        (f"{START}{END}{START}x{END}", ("x", ((0, 0), (0, 1)))),
        (f"a{START}b", None),
        (f"a{END}b{START}", None),
        (f"{START}a{START}b{END}c{END}", None),
    ],
)
def test_marks_are_read_in_pairs(rendered: str, expected: object) -> None:
    assert read_marks(rendered) == expected
