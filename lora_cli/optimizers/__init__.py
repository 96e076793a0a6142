"""The optimizers, one file each family; a new one is a file and a line here."""

from lora_cli.optimizers.adamw import AdamW

OptimizerSpec = AdamW
