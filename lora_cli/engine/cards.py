"""The run told to people: the model card (README.md) and report.html."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from pathlib import Path

from lora_cli.engine.artifacts import RunResult, versions
from lora_cli.files import write_text
from lora_cli.plan.run_plan import RunPlan, SourcePlan
from lora_cli.quantization.bitsandbytes import Quantized
from lora_cli.words import counted

STYLE = """body{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}
td{padding:.2rem .8rem .2rem 0;vertical-align:top}img{max-width:100%}"""


def write_model_card(file: Path, plan: RunPlan, result: RunResult) -> None:
    """Write the card: what the adapter is, how it came to be, how it is used."""
    write_text(file, model_card(plan, result))


def model_card(plan: RunPlan, result: RunResult) -> str:
    """Return the model card in Markdown, with the front matter that model hubs read."""
    name = Path(plan.run_dir).name
    facts = "\n".join(_markdown_row(*fact) for fact in _facts(plan, result))
    packages = ", ".join(f"{package} {number}" for package, number in versions().items())
    return f"""---
library_name: peft
base_model: {json.dumps(plan.model.name, ensure_ascii=False)}
tags: [{plan.adapter.spec.variant}, loracli]
---

# {name}

An adapter for `{plan.model.name}`, variant {plan.adapter.spec.variant}.

| | |
|---|---|
{facts}
{_scores_table(result)}
## Use

In this folder:

{_usage(plan, result)}
{_reproduce(plan)}
The recipe is `recipe.yaml`, every value with its reason is in `plan.json`, every step in
`metrics.jsonl`. Made with {packages}.
"""


def _usage(plan: RunPlan, result: RunResult) -> str:
    """Return the Python that loads the adapter on the base as it was trained."""
    return _usage_with_own_base(plan) if result.base else _usage_with_planned_base(plan)


def _usage_with_own_base(plan: RunPlan) -> str:
    return f"""```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained(
    "base",
    dtype="{plan.model.dtype}",
    attn_implementation="{plan.model.attention}",
)
model = PeftModel.from_pretrained(base, "adapter")
tokenizer = AutoTokenizer.from_pretrained("adapter", padding_side="left")
```

`base` is `{plan.model.name}` as it was quantized here, a part of its weights taken out for the
adapter's start: on any other base the adapter is another model."""


def _usage_with_planned_base(plan: RunPlan) -> str:
    options = [f'dtype="{plan.model.dtype}"', f'attn_implementation="{plan.model.attention}"']
    imported = "AutoTokenizer"
    held = plan.quantization
    if held.method in ("nf4", "fp4"):
        imported = "AutoTokenizer, BitsAndBytesConfig"
        options.append(
            f"quantization_config=BitsAndBytesConfig(load_in_4bit=True, "
            f'bnb_4bit_quant_type="{held.method}", '
            f"bnb_4bit_use_double_quant={held.double_quantization}, "
            f'bnb_4bit_compute_dtype="{held.compute_dtype}"{_kept(plan)})'
        )
    elif held.method == "int8":
        imported = "AutoTokenizer, BitsAndBytesConfig"
        options.append(f"quantization_config=BitsAndBytesConfig(load_in_8bit=True{_kept(plan)})")
    listing = "".join(f"    {option},\n" for option in options)
    return f"""```python
from peft import AutoPeftModelForCausalLM
from transformers import {imported}

model = AutoPeftModelForCausalLM.from_pretrained(
    "adapter",
{listing})
tokenizer = AutoTokenizer.from_pretrained("adapter", padding_side="left")
```{_caution(plan)}"""


def _caution(plan: RunPlan) -> str:
    """Return what plain peft cannot do with this adapter, if there is anything."""
    if (plan.adapter.spec.variant, plan.quantization.method) != ("dora", "int8"):
        return ""
    return """

On a CPU, peft 0.21 loses an int8 weight's scales in DoRA's first product and fails at the second:
`loracli export` makes a plain LoRA of this adapter, with `--rank` or `--error`."""


def _kept(plan: RunPlan) -> str:
    """Return the argument that leaves modules in full precision, if the recipe names any."""
    held = plan.quantization
    if not isinstance(held, Quantized) or not held.full_precision_modules:
        return ""  # transformers leaves the head out by itself
    return f", llm_int8_skip_modules={held.skipped(plan.model.heads)!r}"


def _reproduce(plan: RunPlan) -> str:
    """Return how the answers of `answers.jsonl` are got again, if there are any."""
    answers = plan.evaluation.answers if plan.evaluation else None
    if answers is None:
        return ""
    return f"""
The answers in `answers.jsonl` are greedy, at most {answers.max_new_tokens} tokens, for
{answers.batch_size} prompts at once in the file's order. In {plan.model.dtype}, another batch size
or attention kernel can give some of them other words.
"""


def _facts(plan: RunPlan, result: RunResult) -> list[tuple[str, str]]:
    """Return what both documents say of a run, as (name, value)."""
    return [
        *_model_facts(plan),
        *_data_facts(plan),
        *_training_facts(plan, result),
        ("plan digest", plan.digest),
    ]


def _model_facts(plan: RunPlan) -> list[tuple[str, str]]:
    model, adapter = plan.model, plan.adapter
    size = f"{model.architecture}, {model.parameters:,} parameters, {model.dtype}"
    return [
        ("base model", f"{model.name} ({size}, quantization {plan.quantization.method})"),
        ("base fingerprint", model.fingerprint),
        ("adapter", adapter.spec.summary()),
        ("modules", f"{len(adapter.modules)}: {', '.join(adapter.peft_names) or 'none'}"),
        ("trainable parameters", f"{adapter.trainable_parameters:,}"),
    ]


def _data_facts(plan: RunPlan) -> list[tuple[str, str]]:
    train = plan.data.train
    rows = counted(train.rows, "row")
    tokens = f"{train.total:,} in {rows}, {train.supervised:,} of them supervised"
    return [("data", "; ".join(map(_source, plan.data.sources))), ("tokens", tokens)]


def _source(source: SourcePlan) -> str:
    rows = f"{source.kept} of {counted(source.rows, 'row')}"
    return f"{Path(source.file).name} ({rows}, sha256 {source.sha256})"


def _training_facts(plan: RunPlan, result: RunResult) -> list[tuple[str, str]]:
    schedule = plan.schedule
    batch, accumulation = schedule.batch_size, schedule.gradient_accumulation_steps
    steps = counted(result.steps, "step")
    rows = f"{counted(batch * accumulation, 'row')} ({batch} × {accumulation})"
    rate = f"{plan.optimizer.summary(schedule.learning_rate)}, {schedule.scheduler}"
    warmup = f"{counted(schedule.warmup_steps, 'warm-up step')} ({schedule.warmup_ratio:.1%})"
    facts = [
        ("schedule", f"{steps} of {rows}, {rate}, {warmup}, seed {plan.seed}"),
        ("final training loss", f"{result.final_loss:.4f}"),
    ]
    if result.best_evaluation_loss is not None:
        best = f"{result.best_evaluation_loss:.4f} at step {result.best_step} (this adapter)"
        facts.append(("best evaluation loss", best))
    return facts


def _scores(result: RunResult) -> list[tuple[str, str, str]]:
    """Return (figure, base, adapter) of the answers to the evaluation rows."""
    base = result.scores.get("base", {})
    return [
        (name, f"{base[name]:.1%}", f"{value:.1%}")
        for name, value in result.scores.get("adapter", {}).items()
    ]


def _scores_table(result: RunResult) -> str:
    if not result.scores:
        return ""
    lines = "\n".join(_markdown_row(*score) for score in _scores(result))
    head = "\n## Answers to the evaluation rows\n\n| | base | adapter |\n|---|---|---|\n"
    return f"{head}{lines}\n"


def _markdown_row(*cells: str) -> str:
    escaped = (cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def write_report(
    file: Path, plan: RunPlan, result: RunResult, *, curve: Path, ranks: Path | None = None
) -> None:
    """Write report.html: one file, the loss curve inside it, and that of `ranks` if it is there."""
    title = html.escape(Path(plan.run_dir).name)
    scores = _scores(result)
    parts = [
        f"<h1>{title}</h1>",
        _table(_facts(plan, result)),
        f"<h2>Loss</h2>{_image('loss by step', curve)}",
        f"<h2>Ranks</h2>{_image('ranks by step', ranks)}" if ranks and ranks.is_file() else "",
        f"<h2>Answers</h2>{_table([('', 'base', 'adapter'), *scores])}" if scores else "",
        _warnings(plan),
        "<h2>Every value and its reason</h2>",
        _table((d.field, d.value, d.reason) for d in plan.decisions),
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    write_text(file, f'<!doctype html>\n<html lang="en">{head}\n' + "\n".join(parts) + "</html>\n")


def _image(text: str, picture: Path) -> str:
    data = base64.b64encode(picture.read_bytes()).decode()
    return f'<img alt="{text}" src="data:image/png;base64,{data}">'


def _warnings(plan: RunPlan) -> str:
    items = "".join(f"<li>{html.escape(warning)}</li>" for warning in plan.warnings)
    return f"<h2>Warnings of the plan</h2><ul>{items}</ul>" if items else ""


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>\n" for row in cells) + "</table>"
