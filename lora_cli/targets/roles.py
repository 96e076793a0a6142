"""What a linear layer is for, told from its name: the one place that knows naming customs."""

from __future__ import annotations

import re
from typing import Literal

Role = Literal["attention", "mlp", "router", "other"]

_ROUTER = re.compile(r"(^|\.)(router|gate|shared_expert_gate)$")
_ATTENTION = re.compile(r"(^|[._])(self_?attn|attn|attention|self_?attention|encdecattention)", re.I)
_ATTENTION_LEAVES = frozenset(
    "q_proj k_proj v_proj o_proj qkv_proj query_key_value c_attn Wqkv q_lin k_lin v_lin".split()
)
_MLP = re.compile(r"(^|[._])(mlp|ffn?|feed_?forward|densereludense|experts?|intermediate)", re.I)
_MLP_LEAVES = frozenset("gate_proj up_proj down_proj gate_up_proj fc1 fc2 c_fc w1 w2 w3 wi wo".split())


def role_of(name: str) -> Role:
    """Return the role of the module called `name` (its full dotted name)."""
    leaf = name.rpartition(".")[2]
    if _ROUTER.search(name):
        return "router"
    if leaf in _ATTENTION_LEAVES or _ATTENTION.search(name):
        return "attention"
    if leaf in _MLP_LEAVES or _MLP.search(name):
        return "mlp"
    return "other"
