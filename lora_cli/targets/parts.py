"""Which part of its block a weight is, and of which tower, told from its name.

The naming customs of some 250 architectures of transformers; a name that follows none of them is
called by its own last word. Presets do not depend on this module (`roles`).
"""

from __future__ import annotations

import re
from typing import Literal

from lora_cli.targets.roles import role_of

Tower = Literal["", "vision", "audio", "connector"]

_PREFIX = "(?:linear_|project(?:ion)?_|to_|w|W)?"
_SUFFIX = "(?:_(?:[ab]_)?(?:proj|lin|head|global))?"
_ATTENTION = {
    "qkv": r"(in_proj_)?qkvz?(_proj)?|c_attn|query_key_value|Wqkv|att_proj|in_proj(_weight)?",
    "q": f"{_PREFIX}(?:q|query){_SUFFIX}",
    "kv": f"{_PREFIX}kv(?:_[ab])?(?:_proj)?(?:_with_mqa)?",
    "k": f"{_PREFIX}(?:k|key){_SUFFIX}",
    "v": f"{_PREFIX}(?:v|value){_SUFFIX}",
    "o": r"(o|out|output)(_[ab])?(_proj|_lin)?|dense|c_proj|Wo|(to|linear|attention)_out"
    r"|proj(ection)?(_layer)?",
}
_MLP = {
    "gate_up": "gate_up_proj|Wi|input_linear",
    "gate": "gate_proj|wi_0|w1",
    "up": r"up_proj|fc_?1|(linear_)?fc1|c_fc|fc_in|dense_h_to_4h|wi(_1)?|lin(ear)?_?1|w3|w_in"
    r"|intermediate_dense|dense1|proj_in|in_proj|linear_in|ffn|intermediate",
    "down": r"down_proj|fc_?2|(linear_)?fc2|c_proj|fc_out|dense_4h_to_h|wo|Wo|lin(ear)?_?2|w2|w_out"
    r"|output_dense|dense2|proj_out|out_proj|linear_out|ffn_output|output_linear|output",
}
_PARTS = {
    role: {part: re.compile(leaf) for part, leaf in parts.items()}
    for role, parts in (("attention", _ATTENTION), ("mlp", _MLP))
}
_WRAPPED = frozenset({"linear", "dense"})
"""Last names that say nothing where the module around them has a telling one."""

_TOWERS: tuple[tuple[Tower, re.Pattern[str]], ...] = (
    (
        "connector",
        re.compile(
            r"connector|multi_?modal_projector|mm_projector|(^|_)merger|aligner|resampler|qformer"
            r"|(vision|visual|image|audio|language|text|modality)(_to_text)?_proj(ection|ector)?\b"
            r"|vision_adapter|^projector$|query_tokens"
        ),
    ),
    ("vision", re.compile(r"(^|_)(vision|visual|image|vit)(_|$)")),
    ("audio", re.compile(r"(^|_)(audio|speech|codec)(_|$)")),
)


def part_of(name: str) -> str:
    """Return what the layer called `name` does in its block: `q`, `down`, …; else its last name."""
    *around, leaf = [word for word in name.split(".") if not word.isdecimal()] or [name]
    if name.rpartition(".")[2].isdecimal():
        return leaf  # one of a row of layers, whose numbers say nothing
    parts = _PARTS.get(role_of(name), {})
    if leaf in _WRAPPED and around:
        # `intermediate.dense`, `q_proj.linear`; an attention's own `dense` is its output
        outer = _named(parts, around[-1])
        return outer or _named(parts, leaf) or leaf
    return _named(parts, leaf) or leaf


def _named(parts: dict[str, re.Pattern[str]], word: str) -> str:
    return next((part for part, pattern in parts.items() if pattern.fullmatch(word)), "")


def tower_of(name: str) -> Tower:
    """Return the tower that a weight stands in; empty for the model's main one.

    What joins a tower to the model is a tower of its own, wherever it stands.
    """
    words = name.split(".")
    return next(
        (tower for tower, pattern in _TOWERS if any(map(pattern.search, words))),
        "",
    )
