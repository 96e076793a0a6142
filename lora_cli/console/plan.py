"""A run plan on the terminal: what will be trained, on what, for how long, and why."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.console.reading import shown_in
from lora_cli.console.rows import print_rows
from lora_cli.console.units import gigabytes, parameters
from lora_cli.plan.run_folder import earlier_run
from lora_cli.plan.run_plan import RunPlan, SourcePlan
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.words import counted

if TYPE_CHECKING:
    from lora_cli.memory.subject import Subject

MOST_DROPPED_SHOWN = 5


def make_and_show_plan(loaded: LoadedRecipe, *, as_json: bool) -> None:
    """Plan a recipe and print the plan: as JSON for a program, else for a person."""
    quiet_libraries()
    from lora_cli.memory.subject import Subject
    from lora_cli.plan.make import probe_facts

    with Console(highlight=False).status("planning …") as status:
        quiet_bars()
        facts = probe_facts(loaded, shown_in(status, "planning …"))
        subject = Subject(loaded, facts, full_length=False)
        plan = subject.plan
    if as_json:
        sys.stdout.write(plan.to_json())
    else:
        show_plan(plan, memory=_memory(subject))


def _memory(subject: Subject) -> str:
    """Return the need in closed form: it takes no time, and is no part of the plan."""
    from lora_cli.console.estimate_text import one_line
    from lora_cli.memory.estimate import estimate

    need = one_line(estimate(subject, simulated=False))
    return f"{need} (by arithmetic; `loracli estimate-memory` simulates a step)"


def quietly_planned(loaded: LoadedRecipe, console: Console) -> RunPlan:
    """Return the plan of a recipe; a terminal shows that it is being made."""
    quiet_libraries()
    from lora_cli.plan.make import make_plan

    with console.status("planning …") as status:
        quiet_bars()
        return make_plan(loaded, shown_in(status, "planning …"))


def show_plan(plan: RunPlan, *, memory: str = "") -> None:
    """Print the summary, every decision with its reason, and the warnings."""
    console = Console(highlight=False)
    show_summary(plan, console, memory=memory)
    console.print("\nevery value and where it comes from", style="bold")
    rows = [(decision.field, decision.value, decision.reason) for decision in plan.decisions]
    print_rows(console, rows, ("", "", "dim"))
    if plan.warnings:
        console.print()
    show_warnings(plan, console)
    if earlier := earlier_run(Path(plan.run_dir)):
        console.print(Text(f"\nwarning: {earlier}", style="yellow"), soft_wrap=True)
    console.print(Text(f"\ndigest {plan.digest}", style="dim"), soft_wrap=True)


def show_summary(plan: RunPlan, console: Console, *, memory: str = "") -> None:
    """Print the plan in a dozen lines, and the need of memory where it is known."""
    need = [("memory", memory)] if memory else []
    print_rows(console, [*_summary(plan), *need], ("bold", ""))


def show_warnings(plan: RunPlan, console: Console) -> None:
    """Print what is worth a second thought."""
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def _summary(plan: RunPlan) -> list[tuple[str, str]]:
    lines = [
        ("model", _model(plan)),
        ("", _model_details(plan)),
        *_task(plan),
        ("adapter", _adapter(plan)),
        ("modules", _modules(plan)),
        ("quantization", plan.quantization.method),
    ]
    lines += [("data", line) for source in plan.data.sources for line in _source(source)]
    lines += [("training", _train_rows(plan)), ("", _row_lengths(plan))]
    lines += [("evaluation", _evaluation(plan)), ("schedule", _schedule(plan))]
    lines += [("", _learning_rate(plan)), ("device", _device(plan)), ("output", plan.run_dir)]
    return lines


def _model(plan: RunPlan) -> str:
    model = plan.model
    size = parameters(model.parameters)
    return f"{model.name}  ({model.architecture}, {size} parameters, {model.dtype})"


def _model_details(plan: RunPlan) -> str:
    model = plan.model
    context = f"context {model.context_length:,}" if model.context_length else "no context limit"
    template = "a chat template" if model.chat_template_sha256 else "no chat template"
    template += f", answers end at {' or '.join(model.stop_tokens)}" if model.stop_tokens else ""
    written = f"{template}, " if plan.task.generates else ""
    tied = "tied" if model.tied_embeddings else "untied"
    return f"{context}, {written}{tied} embeddings, {model.attention} attention"


def _task(plan: RunPlan) -> list[tuple[str, str]]:
    """Return the task and its labels; nothing for the usual one."""
    if plan.task.name == "causal_lm":
        return []
    labels = getattr(plan.task, "labels", None)
    named = f" of {counted(len(labels), 'label')}: {', '.join(labels)}" if labels else ""
    return [("task", f"{plan.task.name}{named}")]


def _adapter(plan: RunPlan) -> str:
    count = plan.adapter.trainable_parameters
    share = count / (plan.model.parameters + count)
    return f"{plan.adapter.spec.summary()}: {count:,} trainable ({share:.2%} of all)"


def _modules(plan: RunPlan) -> str:
    if not plan.adapter.modules:
        return "none"
    counts = Counter(name.rpartition(".")[2] for name in plan.adapter.modules)
    listing = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{len(plan.adapter.modules)}: {listing}"


def _source(source: SourcePlan) -> list[str]:
    rows = counted(source.rows, "row")
    if source.dropped_rows:
        rows = f"{source.kept:,} of {rows}"
    more = f" and {len(source.files) - 1:,} more" if len(source.files) > 1 else ""
    lines = [f"{source.files[0].file}{more}  ({rows}, {source.format})"]
    lines += [f"  dropped, line {dropped}" for dropped in source.dropped[:MOST_DROPPED_SHOWN]]
    if source.dropped_rows > MOST_DROPPED_SHOWN:
        by_reason = source.dropped_by_reason.items()
        lines += [f"  dropped in all: {count:,} × {reason}" for reason, count in by_reason]
    return lines


def _train_rows(plan: RunPlan) -> str:
    tokens = plan.data.train
    truncated = f"{tokens.truncated_rows / tokens.rows:.1%} of rows truncated"
    sizes = f"{counted(tokens.rows, 'row')}, {counted(tokens.total, 'token')}"
    return f"{sizes}, {_learnt(plan)}, {truncated}"


def _learnt(plan: RunPlan) -> str:
    """Return how much of the rows is learnt, in the task's own measure."""
    tokens = plan.data.train
    if plan.task.name == "causal_lm":
        return f"{tokens.supervised / tokens.total:.0%} supervised"
    if plan.task.name == "seq2seq_lm":
        return f"{counted(tokens.supervised, 'token')} to write"
    return f"{counted(tokens.supervised, learnt_of(plan))} to learn"


def learnt_of(plan: RunPlan) -> str:
    """Return what a classifier learns one of for each text or word."""
    return "tag" if plan.task.name == "token_classification" else "label"


def _row_lengths(plan: RunPlan) -> str:
    tokens = plan.data.train
    lengths = f"median {tokens.median}, 95 % {tokens.percentile_95}, longest {tokens.longest}"
    return f"row length: {lengths}, limit {plan.data.max_length}"


def _evaluation(plan: RunPlan) -> str:
    evaluation = plan.evaluation
    if evaluation is None:
        return "none"
    origin = (
        Path(evaluation.source.files[0].file).name
        if evaluation.source
        else f"{evaluation.split:.0%} split"
    )
    rows, every = counted(evaluation.tokens.rows, "row"), counted(evaluation.every_steps, "step")
    answers = f", answers by {evaluation.answers.metric}" if evaluation.answers else ""
    return f"{rows} ({origin}) every {every}{answers}"


def _schedule(plan: RunPlan) -> str:
    schedule = plan.schedule
    length = f"{counted(schedule.steps, 'step')}, {counted(schedule.epochs, 'epoch')}"
    batch, accumulation = schedule.batch_size, schedule.gradient_accumulation_steps
    noun = "pack" if schedule.batching == "packed" else "row"
    rows = f"{counted(batch * accumulation, noun)} ({batch} × {accumulation})"
    return f"{length}, of {rows}, about {counted(schedule.tokens_per_step, 'token')}"


def _learning_rate(plan: RunPlan) -> str:
    schedule = plan.schedule
    shape = f"{schedule.scheduler} after {counted(schedule.warmup_steps, 'warm-up step')}"
    return f"{plan.optimizer.summary(schedule.learning_rate)}, {shape}"


def _device(plan: RunPlan) -> str:
    device = plan.device
    return f"{device.type}: {device.name}, {gigabytes(device.memory_bytes)}"
