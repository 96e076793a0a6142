"""What a recipe says of columns, against those that are there."""

from __future__ import annotations

from typing import Any

import pytest

from lora_cli.data.format_wish import Wish, unknown_names
from lora_cli.errors import Where

ROWS: list[dict[str, Any]] = [
    {"question": "a", "answer": "b"},
    {"question": "c", "translation": {"en": "d"}, "note": None},
]
HERE = Where("recipe.yaml", 7, 20)


def problems_of(**wish: Any) -> list[str]:
    places = {"columns.prompt": HERE, "template.text": HERE}
    return [str(each) for each in unknown_names(Wish(**wish, places=places), ROWS)]


ALL = "columns there are: `question`, `answer`, `translation`, `translation.en`, `note`"


@pytest.mark.parametrize(
    ("column", "hint"),
    [
        ("qestion", "did you mean `question`?"),
        ("Question", "did you mean `question`?"),
        ("en", "did you mean `translation.en`?"),
        ("translation.enn", "did you mean `translation.en`?"),
        ("something", ALL),
    ],
)
def test_a_column_that_no_row_has(column: str, hint: str) -> None:
    message = f"recipe.yaml:7:20: no row has a column `{column}` ({hint})"
    assert problems_of(columns={"prompt": column}) == [message]


def test_a_mapping_that_is_the_wrong_way_round() -> None:
    assert problems_of(columns={"question": "prompt"}) == [
        (
            "no row has a column `prompt` (is it the other way round? The format's name comes "
            "first: `prompt: …`)"
        )
    ]


def test_a_column_that_only_a_later_row_has_is_there() -> None:
    columns = {"prompt": "note", "completion": "translation.en"}
    assert problems_of(columns=columns) == []


def test_a_template_that_reads_what_is_not_there() -> None:
    assert problems_of(template={"text": "{{ qestion }}{{ answer }}{{ extra }}"}) == [
        f"recipe.yaml:7:20: the template reads `extra`, and no row has such a column ({ALL})",
        (
            "recipe.yaml:7:20: the template reads `qestion`, and no row has such a column (did you "
            "mean `question`?)"
        ),
    ]


def test_what_a_template_can_do_without_may_be_missing() -> None:
    assert problems_of(template={"text": "{{ extra | default('') }}{{ question }}"}) == []
    assert problems_of(columns={"extra": "note"}, template={"text": "{{ extra }}"}) == []
