"""Which servers take a canonical LoRA, how, and why not where not.

The rules are what was read in the sources of vLLM (vllm/lora, vllm/config/lora.py and
vllm/model_executor/model_loader/bitsandbytes_loader.py) and of llama.cpp
(convert_lora_to_gguf.py); neither is installed or run here.
"""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for --max-lora-rank."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and how it is given the adapter; `why_not` is empty where it takes it."""

    name: str
    use: str = ""
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class ServingFacts:
    """What decides whether a server takes a canonical LoRA."""

    rank: int
    quantization: str = "none"
    """How the base was held while training."""
    double_quantization: bool = True
    own_base: bool = False
    """The base lies quantized in files of its own."""
    input_by_output: bool = False
    """The base holds its weights as (in, out), as GPT-2's are."""
    experts: bool = False
    """Some of the adapted modules are experts."""


def servers_for(*, base: str, adapter: str, facts: ServingFacts) -> list[Server]:
    """Return what each server makes of a canonical LoRA."""
    return [
        Server("peft", f'PeftModel.from_pretrained(base, "{adapter}")'),
        _vllm(base, adapter, facts),
        _llama_cpp(base, adapter, facts),
    ]


def _vllm(base: str, adapter: str, facts: ServingFacts) -> Server:
    why_not = ""
    if facts.input_by_output:
        why_not = "its classes for GPT-2's kind of model take no adapters"
    elif facts.experts:
        why_not = "it holds experts fused, and takes adapters on them in a form of its own"
    elif facts.quantization != "none" and not (facts.own_base or _quantizes_alike(facts)):
        held = facts.quantization + " without double quantization" * (facts.quantization == "nf4")
        why_not = f"it quantizes a model to nf4, doubly, as it loads it: this one was in {held}"
    elif facts.rank > VLLM_RANKS[-1]:
        why_not = f"its highest rank is {VLLM_RANKS[-1]}: export again with a lower --rank"
    if why_not:
        return Server("vLLM", why_not=why_not)
    highest = next(allowed for allowed in VLLM_RANKS if allowed >= facts.rank)
    modules = quote(f"tuned={adapter}")
    flags = f"--enable-lora --max-lora-rank {highest} --lora-modules {modules}"
    if facts.quantization != "none" and not facts.own_base:
        flags = f"--quantization bitsandbytes {flags}"
    return Server("vLLM", f"vllm serve {quote(base)} {flags}")


def _quantizes_alike(facts: ServingFacts) -> bool:
    """Return whether vLLM quantizes a base as this one was (its bitsandbytes_loader.py)."""
    return facts.quantization == "nf4" and facts.double_quantization


def _llama_cpp(base: str, adapter: str, facts: ServingFacts) -> Server:
    why_not = ""
    if facts.input_by_output:
        why_not = "its converter transposes weights that lie as (in, out), and the pairs with them"
    elif facts.quantization != "none":
        why_not = f"it holds no base in {facts.quantization}, which this adapter was trained on"
    if why_not:
        return Server("llama.cpp", why_not=why_not)
    return Server(
        "llama.cpp", f"python convert_lora_to_gguf.py {quote(adapter)} --base {quote(base)}"
    )
