"""An encoder without a tokenizer: a pair's letters are its tokens, and some words do as they say.

It imports little, for the processes that a test starts.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_cli.data.encode_rows import NumberedRow, RowEncoding
from lora_cli.data.encoding.tokenized_row import TokenizedRow
from lora_cli.data.readers.read import RawRow
from lora_cli.errors import PlanError
from lora_cli.formats import Example, Pair, RowProblemError


@dataclass
class Letters:
    """Counts how often it is asked; `log` gets a line each time, slowly."""

    fingerprint: str = "letters"
    log: Path | None = None
    calls: int = 0
    label_type: type[Any] = np.int32

    def encode(self, example: Example, system_prompt: str | None = None) -> TokenizedRow:
        assert isinstance(example, Pair)
        self.calls += 1
        if self.log:
            with self.log.open("a") as log:
                log.write(f"{os.getpid()}\n")
            time.sleep(0.02)
        self._obey(example.completion)
        text = (system_prompt or "") + example.prompt + example.completion
        ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        learnt = len(example.completion)
        labels = ids.astype(self.label_type)
        return TokenizedRow(ids, labels, len(ids) - learnt, 0, ends=True, supervised=learnt)

    def _obey(self, word: str) -> None:
        if word == "die":
            os._exit(9)
        if word == "fail":
            raise PlanError("the template is broken", "base", "mend it")
        if "!" in word:
            raise RowProblemError(f"it holds {len(word)} letters, one of them `!`")


ENCODING = RowEncoding("prompt_completion", Letters())


def numbered(*columns: dict[str, Any]) -> list[NumberedRow]:
    """Return rows of one file."""
    return [(0, RawRow(line, each)) for line, each in enumerate(columns, 1)]


def numbered_pairs(count: int, *, at: int = -1, word: str = "") -> list[NumberedRow]:
    """Return rows of a prompt and a completion; that of row `at` is `word`."""
    completions = (word if number == at else f"answer {number}" for number in range(count))
    return numbered(*({"prompt": "Q", "completion": each} for each in completions))
