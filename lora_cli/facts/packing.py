"""Whether an architecture can be kept from reading across the documents of a row."""

from __future__ import annotations

import inspect
import sys
from typing import Any

ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers, as configs name them, whose mask decides all that a token sees."""
OWN_MASKS = {"doge"}
"""Model types that compute with their masks: one for each document is nothing to them."""


def packing_obstacle(model: Any) -> str | None:
    """Return why documents would leak into each other in one row; None if they can be kept apart.

    `model` may stand on the meta device. What is found here holds for transformers' own
    architectures; a run proves it on its own model before the first step.
    """
    if model._is_stateful or not _layers(model.config.get_text_config()) <= ATTENTION_LAYERS:  # noqa: SLF001
        return "it carries a state from token to token, and so from document to document"
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "it takes no positions, which would restart with each document"
    has_own = hasattr(sys.modules[type(model).__module__], "eager_attention_forward")
    takes_any = model._supports_attention_backend and has_own  # noqa: SLF001
    if not takes_any or model.config.model_type in OWN_MASKS:
        return "its attention cannot be given one document at a time"
    return None


def _layers(config: Any) -> set[str]:
    return set(getattr(config, "layer_types", None) or ())
