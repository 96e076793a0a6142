"""What of an example a causal language model learns."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

LossOn = Literal["assistant", "last_turn", "everything"]
Reasoning = Literal["keep", "drop"]
Truncation = Literal["turns", "tokens"]


class Masking(BaseModel):
    """What is learnt, and what is cut; each field is the recipe's of that name in `training`.

    It stands in the plan as it is, and so comes out of its JSON again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss_on: LossOn = "assistant"
    reasoning: Reasoning = "keep"
    truncation: Truncation = "turns"
