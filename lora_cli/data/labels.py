"""The labels that the rows of a task hold, where the recipe does not name them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_cli.data.encoding.encode_sequence_classification import check_one_label
from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.data.rows import Rows
from lora_cli.data.source import RowSource, load_source
from lora_cli.errors import PlanError, Problem
from lora_cli.formats import Example, LabelledText, LabelledTokens
from lora_cli.tasks.labels import sorted_labels


def found_labels(sources: Sequence[RowSource], *, several: bool = False) -> tuple[str, ...]:
    """Return all labels of the training rows, sorted; the rows are read as those to train on are.

    `several` says that a row may have a list of them.

    Raises:
        PlanError: the rows cannot be read, or hold fewer than two labels.
    """
    parts, problems = [], list[Problem]()
    for source in sources:
        try:
            parts.append(load_source(source, LabelReader(several=several))[0])
        except PlanError as error:
            problems += error.problems
    if problems:
        raise PlanError.from_problems(problems)
    written = {row.tokens.input_ids.astype(np.uint8).tobytes() for row in Rows(parts)}
    found = sorted_labels(label for each in written for label in json.loads(each))
    if len(found) < 2:
        place = str(sources[0].files[0])
        only = f"`{found[0]}` is the only label" if found else "no row has a label"
        raise PlanError(f"{only}: there is nothing to tell apart", place)
    return found


@dataclass(frozen=True, slots=True)
class LabelReader:
    """Reads rows as an encoder does, and writes down their labels alone, as the bytes of a text.

    So they are read on all cores, and not again while the files stay as they are.
    """

    several: bool = False

    @property
    def fingerprint(self) -> str:
        """Return what tells these rows from others of the same files."""
        return f"labels 2 {self.several}"

    def encode(self, example: Example, _system_prompt: str | None = None) -> TokenizedRow:
        """Return the row's labels."""
        assert isinstance(example, LabelledText | LabelledTokens), "other kinds have no labels"
        if isinstance(example, LabelledText) and not self.several:
            check_one_label(example)
        text = json.dumps([str(label) for label in _labels(example)])
        content = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)
        return TokenizedRow(content, content[:1], content.size, 0, ends=False, supervised=1)


def _labels(example: LabelledText | LabelledTokens) -> Sequence[object]:
    if isinstance(example, LabelledTokens):
        return example.tags
    return example.label if isinstance(example.label, tuple) else (example.label,)
