"""Labels by name: fields that the classifying tasks share, and which label a row means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lora_cli.section import Section

LabelName = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(
        lambda value: str(value) if type(value) is int else value, json_schema_input_type=str | int
    ),
]


class LabelledSpec(Section):
    """The field shared by the tasks that choose among labels."""

    labels: Annotated[tuple[LabelName, ...], Field(strict=False, min_length=1)] | None = None
    """Names of the labels, in the order of their numbers from 0; rows hold names or numbers. Left
    out, they are all that the training rows hold, sorted."""

    def label_names(self) -> tuple[str, ...]:
        """Return the labels; two for a task whose labels are not known yet."""
        return self.labels or ("0", "1")


def sorted_labels(labels: Iterable[Any]) -> tuple[str, ...]:
    """Return labels as names, each once; whole numbers in their own order, before all text."""
    names = set(map(str, labels))
    numbers = sorted((name for name in names if name.isdecimal()), key=int)
    return (*numbers, *sorted(name for name in names if not name.isdecimal()))


def label_number(label: object, names: Sequence[str]) -> int | None:
    """Return the number of a row's label among `names`, or None if it is none of them.

    A row may hold a name, or a number, which counts the names from 0 where none is a number itself.
    """
    name = str(label)
    if name in names:
        return names.index(name)
    numbered = name.isdecimal() and not any(each.isdecimal() for each in names)
    return int(name) if numbered and int(name) < len(names) else None


def label_config(names: Sequence[str]) -> dict[str, Any]:
    """Return what a model's config says of its labels."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }
