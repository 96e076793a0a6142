"""Rotary embeddings as llama.cpp reads them: base frequency, and how positions are stretched.

transformers reads back the base frequency alone, so that no round trip proves what is written of a
stretched rotary embedding; tests compare the frequencies with those that transformers computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_cli.errors import ExportError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter

FACTORS = "rope_freqs.weight"
"""What each frequency is divided by: a tensor, read for `llama` alone."""

KEYS = {
    "default": set[str](),
    "linear": {"factor"},
    "yarn": {"factor", "original_max_position_embeddings"},
    "llama3": {
        "factor",
        "original_max_position_embeddings",
        "low_freq_factor",
        "high_freq_factor",
    },
}
"""The kinds that are written, and the keys of each that are seen to."""

YARN_DEFAULTS = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
"""What llama.cpp does where a file says nothing."""


def write_rope(writer: GGUFWriter, architecture: str, config: Any, place: str) -> list[str]:
    """Write the rotary embedding's metadata; return what is to be known of it.

    Raises:
        ExportError: it is of a kind that llama.cpp does not have, or not for this architecture.
    """
    from gguf import RopeScalingType

    settings = dict(config.rope_parameters)
    kind = settings.get("rope_type", "default")
    _check(kind, settings, architecture, place)
    writer.add_rope_freq_base(float(settings["rope_theta"]))
    if kind == "default":
        return []
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType[kind.upper()])
        writer.add_rope_scaling_factor(float(settings["factor"]))
    if kind == "yarn":
        original = settings.get("original_max_position_embeddings")
        writer.add_rope_scaling_orig_ctx_len(int(original or config.max_position_embeddings))
    note = f"positions are stretched ({kind}): written as llama.cpp reads it; "
    return [note + "transformers, reading the file, passes over it"]


def _check(kind: str, settings: dict[str, Any], architecture: str, place: str) -> None:
    if kind not in KEYS or (kind == "llama3" and architecture != "llama"):
        message = f"the file could not say `rope_parameters.rope_type: {kind}`"
        raise ExportError(message, place, f"written are {', '.join(KEYS)} (llama3 for Llama alone)")
    plain = {"partial_rotary_factor": 1.0, **(YARN_DEFAULTS if kind == "yarn" else {})}
    lost = [
        f"`rope_parameters.{key}: {value}`"
        for key, value in settings.items()
        if key not in KEYS[kind] | {"rope_type", "type", "rope_theta"}
        and value is not None
        and (key not in plain or value != plain[key])
    ]
    if lost:
        raise ExportError(f"the file could not say {', '.join(lost)}", place)


def frequency_factors(config: Any) -> np.ndarray[Any, Any] | None:
    """Return what `llama3` divides each frequency by, float32, as transformers computes it."""
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    settings = config.rope_parameters
    if settings.get("rope_type") != "llama3":
        return None
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    size = 2 * len(stretched)
    plain = settings["rope_theta"] ** -(torch.arange(0, size, 2).double() / size)
    factors: np.ndarray[Any, Any] = (plain / stretched.double()).float().numpy()
    return factors
