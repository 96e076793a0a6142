"""The optimizers, one file each family; a new one is a file and a line here."""

from typing import Annotated

from lora_cli.optimizers.adamw import AdamW
from lora_cli.optimizers.bitsandbytes import BitsAndBytesAdamW
from lora_cli.optimizers.lora_fa import LoraFa
from lora_cli.section import OneOf

OptimizerSpec = Annotated[AdamW | BitsAndBytesAdamW | LoraFa, OneOf()]
