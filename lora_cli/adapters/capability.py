"""Where a variant works: the row that each one declares, read by the plan and by the docs.

This module does not check anything: a test runs the cells on small models of every family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Exports = Literal["rank", "twice the rank", "rank squared", "kept ranks", "approximation", "none"]


@dataclass(frozen=True, slots=True)
class Capability:
    """What a variant can be combined with.

    A refusal is a sentence that says why not and what to use instead; an empty one says it works.
    """

    plain: str = ""
    """On a base that is not quantized."""
    four_bit: str = ""
    """On an nf4 or fp4 base."""
    eight_bit: str = ""
    """On an int8 base."""
    conv1d: str = ""
    """On layers that hold their weight as (in, out), as GPT-2's do, in full precision."""
    experts: str = "peft has it for linear layers alone; use lora or rslora"
    """On fused experts, which hold several weights in one tensor (`target_parameters`)."""
    embeddings: str = "not part of this version; use lora or rslora"
    """On the embedding of tokens and on the output head, where they are not tied."""
    patterns: str = ""
    """With ranks and alphas of their own for some modules (`rank_pattern`, `alpha_pattern`)."""
    bfloat16: str = ""
    """Held and trained in bfloat16 (`dtype`)."""
    lora_fa: str = ""
    """With the optimizer lora_fa, which trains B alone."""
    merge: str = ""
    """`loracli merge`, whatever the base was held in while training."""
    exports: Exports = "rank"
    """What `loracli export --to lora` makes of it: an exact LoRA of which rank, or an SVD."""

    def refusal(self, method: str, *, conv1d: bool) -> str:
        """Return why the variant does not work on such a base; empty if it does.

        `method` is the quantization's; `conv1d` is whether a layer that it leaves alone holds its
        weight as (in, out): quantizing turns it round.
        """
        if method == "none":
            refused = self.plain
        else:
            refused = self.eight_bit if method == "int8" else self.four_bit
        return refused or (self.conv1d if conv1d else "")
