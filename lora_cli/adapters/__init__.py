"""The adapter variants, one file each; a new one is a file and a line here."""

from typing import Annotated

from lora_cli.adapters.adalora import AdaLora
from lora_cli.adapters.boft import Boft
from lora_cli.adapters.corda import Corda
from lora_cli.adapters.dora import Dora
from lora_cli.adapters.eva import Eva
from lora_cli.adapters.fourierft import FourierFt
from lora_cli.adapters.ia3 import Ia3
from lora_cli.adapters.loftq import LoftQ
from lora_cli.adapters.loha import LoHa
from lora_cli.adapters.lokr import LoKr
from lora_cli.adapters.lora import Lora
from lora_cli.adapters.lora_ga import LoraGa
from lora_cli.adapters.miss import Miss
from lora_cli.adapters.nora import NoRa
from lora_cli.adapters.oft import Oft
from lora_cli.adapters.olora import OLora
from lora_cli.adapters.p_tuning import PTuning
from lora_cli.adapters.pissa import Pissa
from lora_cli.adapters.prefix_tuning import PrefixTuning
from lora_cli.adapters.prompt_tuning import PromptTuning
from lora_cli.adapters.qlora import Qlora
from lora_cli.adapters.randlora import RandLora
from lora_cli.adapters.rslora import RsLora
from lora_cli.adapters.vera import Vera
from lora_cli.section import OneOf

AdapterSpec = Annotated[
    Lora
    | RsLora
    | Qlora
    | Dora
    | AdaLora
    | NoRa
    | Pissa
    | OLora
    | LoftQ
    | Eva
    | Corda
    | LoraGa
    | Vera
    | LoHa
    | LoKr
    | Ia3
    | Oft
    | Boft
    | Miss
    | RandLora
    | FourierFt
    | PromptTuning
    | PrefixTuning
    | PTuning,
    OneOf(),
]
