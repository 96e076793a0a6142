"""The adapter variants, one file each; a new one is a file and a line here."""

from typing import Annotated

from pydantic import Discriminator, Tag

from lora_cli.adapters.lora import Lora
from lora_cli.adapters.rslora import RsLora
from lora_cli.section import choice

AdapterSpec = Annotated[
    Annotated[Lora, Tag("lora")] | Annotated[RsLora, Tag("rslora")],
    Discriminator(lambda value: choice(value, "variant")),
]
