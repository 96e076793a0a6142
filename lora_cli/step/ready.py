"""The model as it trains: what is set on it after it is built and before the first step."""

from __future__ import annotations

from typing import Any

from lora_cli.model.adapter import enable_gradient_checkpointing
from lora_cli.model.packed_attention import attend_by_document


def make_ready(model: Any, *, gradient_checkpointing: bool, packed: bool, attention: str) -> None:
    """Let the model recompute its activations and tell the documents of a pack apart, if asked to.

    Raises:
        RunError: this architecture cannot recompute activations.
    """
    if gradient_checkpointing:
        enable_gradient_checkpointing(model)
    if packed:
        attend_by_document(model, attention)
