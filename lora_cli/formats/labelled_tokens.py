"""Rows of words and a tag for each: names, parts of speech."""

from __future__ import annotations

from typing import Any

from lora_cli.formats.examples import LabelledTokens
from lora_cli.formats.row_format import Cells, Column, RowFormat, RowProblemError, kind_of
from lora_cli.words import counted


def _labelled(cells: Cells) -> LabelledTokens:
    words, tags = _list(cells, "tokens"), _list(cells, "tags")
    if len(words) != len(tags):
        message = f"{counted(len(words), 'word')} in `{cells.name('tokens')}`, but "
        message += f"{counted(len(tags), 'tag')} in `{cells.name('tags')}`"
        raise RowProblemError(f"{message}: each word needs one tag")
    for number, (word, tag) in enumerate(zip(words, tags, strict=True), 1):
        _check(word, tag, number)
    return LabelledTokens(tuple(words), tuple(tags))


def _list(cells: Cells, column: str) -> list[Any]:
    value = cells.value(column)
    if not isinstance(value, list) or not value:
        name = cells.name(column)
        raise RowProblemError(f"column `{name}` must be a list that is not empty")
    return value


def _check(word: Any, tag: Any, number: int) -> None:
    if not isinstance(word, str):
        raise RowProblemError(f"word {number} is {kind_of(word)}, not text")
    if not word.strip():
        raise RowProblemError(f"word {number} is empty: remove it and its tag")
    if isinstance(tag, bool) or not isinstance(tag, str | int):
        what = kind_of(tag)
        raise RowProblemError(f"tag {number} is {what}: write its name or its whole number")
    if isinstance(tag, str) and not tag.strip():
        raise RowProblemError(f"tag {number} is empty: write `O` for a word outside all names")


FORMAT = RowFormat(
    name="labelled_tokens",
    kind=LabelledTokens,
    columns=(
        Column("tokens", ("words",)),
        Column("tags", ("ner_tags", "pos_tags", "chunk_tags", "labels")),
    ),
    read=_labelled,
)
"""`{"tokens": […], "tags": […]}`, as many of the one as of the other."""
