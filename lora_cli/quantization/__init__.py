"""How the base's weights are held, one file a backend; a new one is a file and a line here."""

from typing import Annotated

from pydantic import Discriminator, Tag

from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from lora_cli.section import choice

QuantizationSpec = Annotated[
    Annotated[Unquantized, Tag("none")]
    | Annotated[FourBit, Tag("nf4")]
    | Annotated[FourBit, Tag("fp4")]
    | Annotated[EightBit, Tag("int8")],
    Discriminator(lambda value: choice(value, "method")),
]
