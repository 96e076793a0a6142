"""`--targets` as it is typed, and what a recipe says for it."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_cli.errors import InspectError
from lora_cli.targets.written import Written, overrides_of, read_targets, regex_of_glob

NAMES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.11.self_attn.o_proj",
    "model.layers.1.mlp.down_proj",
    "lm_head",
]


def overrides(*texts: str) -> tuple[str, ...]:
    return overrides_of(read_targets(texts))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("attention", '"attention"'),
        ("q_proj", '["q_proj"]'),
        ("q_proj, v_proj", '["q_proj", "v_proj"]'),
        ("*.self_attn.?_proj", '{"regex": ".*\\\\.self_attn\\\\.._proj"}'),
        ("self_attn.[qk]_proj", '{"regex": "(?:.*\\\\.)?self_attn\\\\.[qk]_proj"}'),
        ("layers.[!0-3].*", '{"regex": "(?:.*\\\\.)?layers\\\\.[^0-3]\\\\..*"}'),
        ("{regex: '.*q_proj'}", '{"regex": ".*q_proj"}'),
        (r".*(q|v)_proj", '{"regex": ".*(q|v)_proj"}'),
        (
            "q_proj,*.mlp.*",
            '{"regex": "(?:(?:.*\\\\.)?q_proj)|(?:.*\\\\.mlp\\\\..*)"}',
        ),
    ],
)
def test_what_a_recipe_says_for_it(typed: str, expected: str) -> None:
    assert overrides(typed) == (f"adapter.target_modules={expected}",)


def test_experts_are_tensors_beside_modules() -> None:
    assert overrides("attention,experts") == (
        'adapter.target_modules="attention"',
        "adapter.target_parameters=experts",
    )
    assert overrides("q_proj", "experts")[0] == 'adapter.target_modules=["q_proj"]'


def test_nothing_typed_says_nothing() -> None:
    assert overrides() == ()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("attention", "q_proj"), "`attention` means several modules already, and stands alone"),
        (("experts",), "`experts` alone: peft needs a layer beside them"),
        (("q_proj,,v_proj",), "an empty pattern means no module"),
        (("",), "an empty pattern means no module"),
        (("(q_proj",), r"`(q_proj` is not a regular expression: "),
        (("{regex: '['}",), "`[` is not a regular expression: "),
    ],
)
def test_what_is_refused(typed: tuple[str, ...], message: str) -> None:
    with pytest.raises(InspectError) as caught:
        read_targets(typed)
    (problem,) = caught.value.problems
    assert problem.message.startswith(message)
    assert str(problem.where) == "--targets"
    assert problem.hint


@given(
    parts=st.lists(
        st.sampled_from(["*", "?", "[qk]", "[!o]", "_proj", ".", "mlp", "0", "self_attn", "q"]),
        min_size=1,
        max_size=6,
    ),
    name=st.sampled_from(NAMES),
)
def test_a_pattern_means_the_end_of_a_name_from_a_dot_on(parts: list[str], name: str) -> None:
    glob = "".join(parts)
    words = name.split(".")
    ends = [".".join(words[index:]) for index in range(len(words))]
    expected = any(fnmatch.fnmatchcase(end, glob) for end in ends)
    assert (re.fullmatch(regex_of_glob(glob), name) is not None) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_an_expression_means_what_it_means_in_a_list(name: str) -> None:
    leaf = name.rpartition(".")[2]
    expression = Written(leaf, "name").expression
    found = [each for each in NAMES if re.fullmatch(expression, each)]
    assert found == [each for each in NAMES if each == leaf or each.endswith(f".{leaf}")]
