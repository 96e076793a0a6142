"""The run told to people: the model card (README.md) and report.html."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from pathlib import Path

from lora_cli.engine.artifacts import RunResult, versions
from lora_cli.engine.usage import usage
from lora_cli.files import write_text
from lora_cli.plan.run_plan import RunPlan, SourcePlan
from lora_cli.words import counted, figure_value

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
{_classes_table(result)}{_scores_table(result)}
## Use

In this folder:

{usage(plan, own_base=result.base is not None)}
{_reproduce(plan)}
The recipe is `recipe.yaml`, every value with its reason is in `plan.json`, every step in
`metrics.jsonl`. Made with {packages}.
"""


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
    files = ", ".join(f"{Path(each.file).name} {each.sha256}" for each in source.files)
    return f"{files} ({rows})"


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
    facts += [
        (f"evaluation {name.replace('_', ' ')}", figure_value(name, value))
        for name, value in result.figures.items()
    ]
    return facts


def _classes(result: RunResult) -> list[tuple[str, ...]]:
    """Return (label, figure, …) of each label, under their names; nothing where there are none."""
    if not result.per_class:
        return []
    fields = next(iter(result.per_class.values()))
    rows = [
        (
            name,
            *(
                f"{value:,.0f}" if key == "support" else f"{value:.1%}"
                for key, value in found.items()
            ),
        )
        for name, found in result.per_class.items()
    ]
    return [("", *fields), *rows]


def _classes_table(result: RunResult) -> str:
    if not result.per_class:
        return ""
    head, *rows = (_markdown_row(*row) for row in _classes(result))
    rule = _markdown_row(*["---"] * len(_classes(result)[0]))
    return "\n## Labels of the evaluation rows\n\n" + "\n".join([head, rule, *rows]) + "\n"


def _scores(result: RunResult) -> list[tuple[str, str, str]]:
    """Return (figure, base, adapter) of the answers to the evaluation rows."""
    base = result.scores.get("base", {})
    return [
        (name, figure_value(name, base[name]), figure_value(name, value))
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
        f"<h2>Labels</h2>{_table(_classes(result))}" if result.per_class else "",
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
