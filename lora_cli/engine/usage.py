"""The Python that loads a run's adapter on its base as it was trained, for the model card."""

from __future__ import annotations

from lora_cli.plan.run_plan import RunPlan
from lora_cli.quantization.bitsandbytes import Quantized
from lora_cli.quantization.in_python import caution, quantization_argument


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
    if isinstance(plan.quantization, Quantized):
        options.append(quantization_argument(plan.quantization, plan.model.heads))
        return options, "AutoTokenizer, BitsAndBytesConfig"
    return options, "AutoTokenizer"


def _caution(plan: RunPlan) -> str:
    """Return what plain peft does otherwise with this adapter, if there is anything."""
    said = caution(plan.quantization.method, dora=plan.adapter.spec.variant == "dora")
    return f"\n\n{said}" if said else ""
