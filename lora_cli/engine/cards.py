"""The run told to people: the model card (README.md) and report.html."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from lora_cli.engine.artifacts import RunResult, versions
from lora_cli.files import write_text
from lora_cli.plan.run_plan import RunPlan


def write_model_card(folder: Path, plan: RunPlan, result: RunResult) -> None:
    """Write README.md: what the adapter is, how it came to be, how it is used."""
    write_text(folder / "README.md", model_card(plan, result))


def model_card(plan: RunPlan, result: RunResult) -> str:
    """Return the model card in Markdown, with the front matter that model hubs read."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(plan, result))
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"""---
library_name: peft
base_model: {plan.model.name}
tags: [{plan.adapter.spec.variant}, loracli]
---

# {Path(plan.run_dir).name}

A {plan.adapter.spec.variant} adapter for `{plan.model.name}`.

| | |
|---|---|
{rows}
{_scores_table(result)}
## Use

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{result.adapter}", dtype="{plan.model.dtype}")
tokenizer = AutoTokenizer.from_pretrained("{result.adapter}")
```

The recipe is `recipe.yaml`, every value with its reason is in `plan.json`, every step in
`metrics.jsonl`. Made with {packages}.
"""


def _facts(plan: RunPlan, result: RunResult) -> list[tuple[str, str]]:
    spec, schedule, train = plan.adapter.spec, plan.schedule, plan.data.train
    facts = [
        ("base model", f"`{plan.model.name}` ({plan.model.architecture}, {plan.model.parameters:,} "
                       f"parameters, {plan.model.dtype}, quantization {plan.quantization.method})"),
        ("base fingerprint", f"`{plan.model.fingerprint}`"),
        ("adapter", f"{spec.variant}, rank {spec.rank}, alpha {spec.resolved_alpha:g}, "
                    f"scaling {plan.adapter.scaling:g}, dropout {spec.dropout:g}"),
        ("modules", f"{len(plan.adapter.modules)}: {', '.join(plan.adapter.peft_names)}"),
        ("trainable parameters", f"{plan.adapter.trainable_parameters:,}"),
        ("data", "; ".join(f"{Path(s.file).name} ({s.kept} rows, sha256 `{s.sha256[:16]}…`)"
                           for s in plan.data.sources)),
        ("tokens", f"{train.total:,} in {train.rows:,} rows, {train.supervised:,} of them supervised"),
        ("schedule", f"{result.steps} steps of {schedule.batch_size} × "
                     f"{schedule.gradient_accumulation_steps} rows, learning rate "
                     f"{schedule.learning_rate:g}, {schedule.scheduler}, "
                     f"{schedule.warmup_steps} warm-up steps"),
        ("final training loss", f"{result.final_loss:.4f}"),
    ]
    if result.best_evaluation_loss is not None:
        best = f"{result.best_evaluation_loss:.4f} at step {result.best_step} (this adapter)"
        facts.append(("best evaluation loss", best))
    facts.append(("plan digest", f"`{plan.digest}`"))
    return facts


def _scores_table(result: RunResult) -> str:
    if not result.scores:
        return ""
    names = list(result.scores["adapter"])
    lines = [f"| {name} | {result.scores['base'][name]:.1%} | {result.scores['adapter'][name]:.1%} |"
             for name in names]
    head = "\n## Answers to the evaluation rows\n\n| | base | adapter |\n|---|---|---|\n"
    return head + "\n".join(lines) + "\n"


def write_report(folder: Path, plan: RunPlan, result: RunResult) -> None:
    """Write report.html: one file, the curve inside it."""
    picture = base64.b64encode((folder / "loss.png").read_bytes()).decode()
    facts = "".join(_row(name, value.replace("`", "")) for name, value in _facts(plan, result))
    decisions = "".join(_row(d.field, d.value, d.reason) for d in plan.decisions)
    warnings = "".join(f"<li>{html.escape(warning)}</li>" for warning in plan.warnings)
    scores = "".join(
        _row(name, f"{result.scores['base'][name]:.1%}", f"{value:.1%}")
        for name, value in result.scores.get("adapter", {}).items()
    )
    title = html.escape(Path(plan.run_dir).name)
    scores_table = f"<h2>Answers</h2><table>{_row('', 'base', 'adapter')}{scores}</table>"
    text = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}}
td{{padding:.2rem .8rem .2rem 0;vertical-align:top}}img{{max-width:100%}}</style>
<h1>{title}</h1><table>{facts}</table>
<h2>Loss</h2><img alt="loss by step" src="data:image/png;base64,{picture}">
{scores_table if scores else ""}
{f"<h2>Warnings of the plan</h2><ul>{warnings}</ul>" if warnings else ""}
<h2>Every value and its reason</h2><table>{decisions}</table></html>
"""
    write_text(folder / "report.html", text)


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>\n"
