"""What an export to GGUF wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GgufResult:
    """A written file, and how it is used."""

    source: str
    form: Literal["model", "adapter"]
    architecture: str
    """GGUF's name for it."""
    base: str
    """What an adapter belongs to; empty for a model."""
    precision: str
    output: str
    file: str
    modelfile: str
    tensors: int
    kinds: dict[str, int]
    """How many tensors are held in which way."""
    texts_compared: int
    """How many texts the file's tokenizer made the same tokens of as the model's."""
    notes: list[str]
    use: list[str]
    """Commands that load it."""
    bytes_written: int
    seconds: float
