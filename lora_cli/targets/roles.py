"""What a linear layer is for, told from its name: the one place that knows naming customs."""

from __future__ import annotations

import re
from typing import Literal

Role = Literal["attention", "mlp", "router", "other"]

_ROUTER = re.compile(r"(^|\.)(router|gate|shared_expert_gate)(\.|$)")
_ATTENTION = re.compile(
    r"(^|[._])(self_?attn|attn|attention|self_?attention|encdecattention)", re.IGNORECASE
)
_ATTENTION_LEAF = re.compile(r"[qkvo]_proj|qkv_proj|query_key_value|c_attn|Wqkv|[qkv]_lin")
_MLP = re.compile(
    r"(^|[._])(mlp|ffn?|feed_?forward|densereludense|experts?|intermediate)"
    r"|(^|\.)layer\.\d+\.output\.",  # BERT calls the second half of its feed-forward `output`
    re.IGNORECASE,
)
_MLP_LEAF = re.compile(r"(gate|up|down|gate_up)_proj|fc[12]|c_fc|w[123]|wi|wo")


def role_of(name: str) -> Role:
    """Return the role of the module called `name` (its full dotted name)."""
    leaf = name.rpartition(".")[2]
    if _ROUTER.search(name):
        return "router"
    if _ATTENTION_LEAF.fullmatch(leaf) or _ATTENTION.search(name):
        return "attention"
    if _MLP_LEAF.fullmatch(leaf) or _MLP.search(name):
        return "mlp"
    return "other"


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a module lies in: the first number in its name."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)
