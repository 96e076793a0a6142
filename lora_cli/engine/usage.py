"""The Python that loads a run's adapter on its base as it was trained, for the model card."""

from __future__ import annotations

from lora_cli.plan.run_plan import RunPlan
from lora_cli.quantization.bitsandbytes import Quantized

_REPACKED = """

On a CPU with AVX512-BF16, bitsandbytes repacks 4-bit weights in `eval()` for a kernel that rounds
otherwise, and the model is not quite the one that was trained. To keep them as they were, before
the first use:

```python
from bitsandbytes.nn import Linear4bit

for module in model.modules():
    if isinstance(module, Linear4bit):
        module.support_avx512bf16_for_cpu = False
```"""


def usage(plan: RunPlan, *, own_base: bool) -> str:
    """Return Markdown; `own_base` says that the run's folder holds the base too."""
    if own_base:
        return _with_own_base(plan)
    return _with_head(plan) if plan.task.has_new_head else _with_planned_base(plan)


def _with_own_base(plan: RunPlan) -> str:
    return f"""```python
from peft import PeftModel
from transformers import {plan.task.auto_class}, AutoTokenizer

base = {plan.task.auto_class}.from_pretrained(
    "base",
    dtype="{plan.model.dtype}",
    attn_implementation="{plan.model.attention}",
)
model = PeftModel.from_pretrained(base, "adapter")
{_tokenizer(plan)}
```

`base` is `{plan.model.name}` as it was quantized here, a part of its weights taken out for the
adapter's start: on any other base the adapter is another model.{_caution(plan)}"""


def _with_head(plan: RunPlan) -> str:
    """Return how base and adapter are put together where the adapter brings the model's head."""
    options, imported = _options(plan)
    listing = "".join(f"    {option},\n" for option in options)
    return f"""```python
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, {plan.task.auto_class}, {imported}

base = {plan.task.auto_class}.from_pretrained(
    PeftConfig.from_pretrained("adapter").base_model_name_or_path,
    config=AutoConfig.from_pretrained("adapter"),
{listing})
model = PeftModel.from_pretrained(base, "adapter").eval()
{_tokenizer(plan)}
```

The labels stand in `adapter/config.json`. The head is new, and the adapter brings it: transformers
says that it is missing in the base.{_caution(plan)}"""


def _with_planned_base(plan: RunPlan) -> str:
    options, imported = _options(plan)
    listing = "".join(f"    {option},\n" for option in options)
    peft_class = plan.task.auto_class.replace("AutoModel", "AutoPeftModel")
    return f"""```python
from peft import {peft_class}
from transformers import {imported}

model = {peft_class}.from_pretrained(
    "adapter",
{listing})
{_tokenizer(plan)}
```{_caution(plan)}"""


def _tokenizer(plan: RunPlan) -> str:
    side = ', padding_side="left"' if plan.task.name == "causal_lm" else ""
    return f'tokenizer = AutoTokenizer.from_pretrained("adapter"{side})'


def _options(plan: RunPlan) -> tuple[list[str], str]:
    """Return the arguments that hold the base as it was held, and what they are imported from."""
    options = [f'dtype="{plan.model.dtype}"', f'attn_implementation="{plan.model.attention}"']
    held = plan.quantization
    if held.method in ("nf4", "fp4"):
        options.append(
            f"quantization_config=BitsAndBytesConfig(load_in_4bit=True, "
            f'bnb_4bit_quant_type="{held.method}", '
            f"bnb_4bit_use_double_quant={held.double_quantization}, "
            f'bnb_4bit_compute_dtype="{held.compute_dtype}"{_kept(plan)})'
        )
    elif held.method == "int8":
        options.append(f"quantization_config=BitsAndBytesConfig(load_in_8bit=True{_kept(plan)})")
    quantized = held.method != "none"
    return options, "AutoTokenizer, BitsAndBytesConfig" if quantized else "AutoTokenizer"


def _caution(plan: RunPlan) -> str:
    """Return what plain peft does otherwise with this adapter, if there is anything."""
    if plan.quantization.method in ("nf4", "fp4"):
        return _REPACKED
    if (plan.adapter.spec.variant, plan.quantization.method) != ("dora", "int8"):
        return ""
    return """

On a CPU, peft 0.21 loses an int8 weight's scales in DoRA's first product and fails at the second:
`loracli export` makes a plain LoRA of this adapter, with `--rank` or `--error`."""


def _kept(plan: RunPlan) -> str:
    """Return the argument that leaves modules in full precision.

    transformers leaves out a language model's head by itself, and nothing else.
    """
    held = plan.quantization
    if not isinstance(held, Quantized):
        return ""
    if not held.full_precision_modules and not plan.task.has_new_head:
        return ""
    return f", llm_int8_skip_modules={held.skipped(plan.model.heads)!r}"
