"""The optimizers, one file each family; a new one is a file and a line here."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from lora_cli.optimizers.adamw import AdamW
from lora_cli.optimizers.bitsandbytes import BitsAndBytesAdamW
from lora_cli.optimizers.lora_fa import LoraFa
from lora_cli.section import choice


def _name(value: Any) -> str | None:
    """Return which optimizer `value` asks for; settings alone are AdamW's."""
    return choice(value, "name") or ("adamw" if isinstance(value, dict) else None)


OptimizerSpec = Annotated[
    Annotated[AdamW, Tag("adamw")]
    | Annotated[BitsAndBytesAdamW, Tag("adamw_8bit")]
    | Annotated[BitsAndBytesAdamW, Tag("paged_adamw")]
    | Annotated[BitsAndBytesAdamW, Tag("paged_adamw_8bit")]
    | Annotated[LoraFa, Tag("lora_fa")],
    Discriminator(_name),
]
