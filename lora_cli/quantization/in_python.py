"""How others hold a base as a run held it: what transformers takes, in Python, and what to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_cli.quantization.bitsandbytes import EightBit, FourBit

_REPACKED = """\
On a CPU with AVX512-BF16, bitsandbytes repacks 4-bit weights in `eval()` for a kernel that rounds
otherwise, and the model is not quite the one that was trained. To keep them as they were, before
the first use:

```python
from bitsandbytes.nn import Linear4bit

for module in model.modules():
    if isinstance(module, Linear4bit):
        module.support_avx512bf16_for_cpu = False
```"""
_SCALES_LOST = """\
On a CPU, peft 0.21 loses an int8 weight's scales in DoRA's first product and fails at the second:
`loracli export` makes a plain LoRA of this adapter, with `--rank` or `--error`."""


def recorded(quantization: Mapping[str, Any] | None) -> FourBit | EightBit | None:
    """Return what a file says of how a base was held; None where it was not quantized.

    Raises:
        ValueError: it says what no quantization here has.
    """
    if not quantization or quantization.get("method") == "none":
        return None
    kind = EightBit if quantization.get("method") == "int8" else FourBit
    return kind.model_validate(dict(quantization))


def quantization_argument(held: FourBit | EightBit, heads: Sequence[str]) -> str:
    """Return what `from_pretrained` takes to quantize all but `heads`, and what `held` keeps."""
    options = ["load_in_8bit=True"]
    if isinstance(held, FourBit):
        options = [
            "load_in_4bit=True",
            f'bnb_4bit_quant_type="{held.method}"',
            f"bnb_4bit_use_double_quant={held.double_quantization}",
            f'bnb_4bit_compute_dtype="{held.compute_dtype}"',
        ]
    if skipped := held.skipped(heads):
        options.append(f"llm_int8_skip_modules={skipped!r}")
    return f"quantization_config=BitsAndBytesConfig({', '.join(options)})"


def caution(method: str, *, dora: bool) -> str:
    """Return what plain peft does otherwise on a base held by `method`, if there is anything."""
    if method in ("nf4", "fp4"):
        return _REPACKED
    return _SCALES_LOST if dora and method == "int8" else ""
