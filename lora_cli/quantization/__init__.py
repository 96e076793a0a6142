"""How the base's weights are held, one file a backend; a new one is a file and a line here."""

from typing import Annotated

from lora_cli.quantization.bitsandbytes import EightBit, FourBit
from lora_cli.quantization.none import Unquantized
from lora_cli.section import OneOf

QuantizationSpec = Annotated[Unquantized | FourBit | EightBit, OneOf()]
