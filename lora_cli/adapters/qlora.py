"""QLoRA: LoRA on a 4-bit base. Dettmers et al. 2023, arXiv 2305.14314, section 3.

The adapter is plain LoRA. What makes it QLoRA is decided by the plan, where the recipe leaves it
open: an nf4 base with double quantization, and an optimizer whose state is paged.
"""

from typing import ClassVar, Literal

from lora_cli.adapters.capability import Capability
from lora_cli.adapters.low_rank import LowRankSpec

_NOT_FOUR_BIT = (
    "QLoRA is LoRA on a 4-bit base: write `quantization: nf4`, or leave it out, or take the "
    "variant lora"
)


class Qlora(LowRankSpec):
    """LoRA on a base in nf4 with double quantization, with a paged optimizer.

    `quantization` and `training.optimizer` are these if the recipe leaves them out.
    """

    variant: Literal["qlora"] = "qlora"
    """The method: LoRA, and the defaults of QLoRA for quantization and optimizer."""

    capability: ClassVar[Capability] = Capability(
        plain=_NOT_FOUR_BIT,
        eight_bit=_NOT_FOUR_BIT,
        experts="",
        embeddings="",
    )
