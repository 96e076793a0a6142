"""`loracli train` on the terminal: the plan in short, live progress, the result."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lora_cli.console.plan import quietly_planned, show_summary, show_warnings
from lora_cli.console.reading import reading_text
from lora_cli.console.units import duration, gigabytes
from lora_cli.engine.artifacts import RunResult
from lora_cli.events import (
    AnswersDone,
    CheckpointSaved,
    Evaluated,
    Event,
    Notice,
    Resumed,
    RowsRead,
    RunStarted,
    Stage,
    StartsDone,
    StepDone,
    StoppedEarly,
)
from lora_cli.plan.run_plan import RunPlan
from lora_cli.recipe.load import LoadedRecipe
from lora_cli.words import counted, figure, figure_value

if TYPE_CHECKING:
    from lora_cli.memory.beside import Comparison

PLAIN_LINES = 50
"""How many lines of steps a whole run prints where there is no terminal."""


def train(loaded: LoadedRecipe, *, resume: bool, overwrite: bool) -> RunResult:
    """Plan and run a recipe, showing both; return the result."""
    console = Console(highlight=False)
    plan = quietly_planned(loaded, console)
    from lora_cli.engine.run import run

    show_summary(plan, console)
    show_warnings(plan, console)
    console.print()
    with TrainingView(console) as view:
        result = run(plan, view, resume=resume, overwrite=overwrite)
    show_result(result, console)
    show_prediction(plan, result, console)
    return result


class TrainingView:
    """Shows events: a live panel on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._total = 0
        self._recent: deque[StepDone] = deque(maxlen=20)
        self._evaluation: Evaluated | None = None

    def __enter__(self) -> TrainingView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, RunStarted):
            self._total = event.total_steps
        elif isinstance(event, StepDone):
            self._recent.append(event)
            self._step(event)
        elif isinstance(event, StartsDone):
            self._start(event)
        elif isinstance(event, RowsRead):
            self._live.update(Text(f"reading {reading_text(event)}"))
        elif text := _line(event):
            if isinstance(event, Evaluated):
                self._evaluation = event
            elif isinstance(event, Stage):
                self._live.update("")
            self._console.print(Text(text), soft_wrap=True)

    def _start(self, event: StartsDone) -> None:
        if event.done == event.total:
            self._live.update("")
            text = f"the adapter's start: {counted(event.total, 'module')}"
            self._console.print(Text(text), soft_wrap=True)
        elif self._console.is_terminal:
            panel = Table.grid()
            panel.add_row(ProgressBar(total=event.total, completed=event.done, width=40))
            panel.add_row(Text(f"module {event.done}/{event.total}"))
            self._live.update(panel)

    def _step(self, event: StepDone) -> None:
        if self._console.is_terminal:
            self._live.update(self._panel(event))
            return
        interval = max(1, self._total // PLAIN_LINES)
        if event.step == 1 or event.step % interval == 0 or event.step == self._total:
            self._console.print(Text(self._step_text(event)), soft_wrap=True)

    def _panel(self, event: StepDone) -> Table:
        panel = Table.grid()  # a row each: a bar in a plain group shares its line with the text
        panel.add_row(ProgressBar(total=self._total, completed=event.step, width=40))
        panel.add_row(Text(self._step_text(event)))
        if self._evaluation:
            last = self._evaluation
            text = f"evaluation loss {last.loss:.4f} at step {last.step}"
            panel.add_row(Text(text, style="dim"))
        return panel

    def _step_text(self, event: StepDone) -> str:
        seconds = sum(step.seconds for step in self._recent)
        speed = sum(step.tokens for step in self._recent) / seconds
        left = (self._total - event.step) * seconds / len(self._recent)
        figures = (
            f"step {event.step}/{self._total}",
            f"loss {event.loss:.4f}",
            f"lr {event.learning_rate:.2e}",
            f"grad {event.gradient_norm:.3f}",
            f"{speed:,.0f} tokens/s",
            gigabytes(event.memory_bytes),
            f"{duration(left)} left",
        )
        return "  ".join(figures)


def _line(event: Event) -> str:
    """Return an event other than a step as a line; empty for one not worth a line."""
    if isinstance(event, Stage | Notice):
        return f"{time.strftime('%H:%M:%S')}  {event.text}"
    if isinstance(event, Evaluated):
        mark = "  best so far" if event.best else ""
        figures = (figure(name, value) for name, value in event.figures.items())
        found = ", ".join((f"loss {event.loss:.4f}", *figures))
        return f"evaluation at step {event.step}: {found}{mark}"
    if isinstance(event, CheckpointSaved | Resumed):
        saved = isinstance(event, CheckpointSaved)
        name = Path(event.path).name
        return f"checkpoint {event.path}" if saved else f"going on from checkpoint {name}"
    if isinstance(event, StoppedEarly):
        without = f"{counted(event.patience, 'evaluation')} without a better loss"
        return f"stopped early at step {event.step}: {without}"
    if isinstance(event, AnswersDone) and event.done == event.total:
        return f"{event.who}: {counted(event.total, 'answer')}"
    return ""


def show_result(result: RunResult, console: Console) -> None:
    """Print what a run came to."""
    console.print()
    if result.scores:
        console.print(_scores(result))
        console.print()
    speed = result.tokens / result.seconds
    console.print(
        f"{counted(result.steps, 'step')} in {duration(result.seconds)} ({speed:,.0f} tokens/s), "
        f"final loss {result.final_loss:.4f}, peak memory {gigabytes(result.peak_memory_bytes)}"
    )
    if result.best_evaluation_loss is not None:
        found = ", ".join((f"{result.best_evaluation_loss:.4f}", *_figures(result)))
        text = f"the adapter is that of step {result.best_step}: evaluation loss {found}"
        console.print(text, soft_wrap=True)
    if result.per_class:
        console.print(_classes(result))
    console.print(f"adapter   {result.adapter}", soft_wrap=True)
    if result.base is not None:
        console.print(f"base      {result.base} (the adapter belongs to it)", soft_wrap=True)
    console.print(f"report    {result.run_dir}/report.html", soft_wrap=True)
    console.print(f"digest    {result.digest}", soft_wrap=True)


def show_prediction(plan: RunPlan, result: RunResult, console: Console) -> None:
    """Print the peak of memory that a simulation predicts beside the one that was measured."""
    from lora_cli.memory.batch_shape import BatchShape
    from lora_cli.memory.beside import compare_peaks

    if result.largest_batch is None:
        return
    compared = compare_peaks(
        plan,
        peak=result.peak_memory_bytes,
        before=result.memory_before_bytes,
        largest=BatchShape(**result.largest_batch),
    )
    measured = gigabytes(compared.measured)
    if plan.device.type == "cpu":
        before = gigabytes(result.memory_before_bytes)
        told = f"the process grew by {measured} from the {before} it took before the model"
    else:
        told = f"{measured} allocated on the GPU"
    console.print(f"memory    {_predicted(compared)}; {told}", soft_wrap=True)


def _predicted(compared: Comparison) -> str:
    if compared.predicted is None:
        return f"not predicted: {compared.why_not}"
    live = f"{gigabytes(compared.predicted)} predicted at once for the model and its steps"
    if not compared.kept:
        return live
    return f"{live}, and up to {gigabytes(compared.kept)} given back that the process keeps"


def _figures(result: RunResult) -> list[str]:
    return [figure(name, value) for name, value in result.figures.items()]


def _classes(result: RunResult) -> Table:
    table = Table(title="labels of the evaluation rows", title_justify="left")
    table.add_column("")
    for name in next(iter(result.per_class.values())):
        table.add_column(name, justify="right")
    for name, found in result.per_class.items():
        cells = (
            f"{value:,.0f}" if key == "support" else f"{value:.1%}" for key, value in found.items()
        )
        table.add_row(Text(name), *cells)
    return table


def _scores(result: RunResult) -> Table:
    table = Table(title="answers to the evaluation rows", title_justify="left")
    table.add_column("")
    table.add_column("base", justify="right")
    table.add_column("adapter", justify="right")
    for name, base in result.scores["base"].items():
        table.add_row(
            name.replace("_", " "),
            figure_value(name, base),
            figure_value(name, result.scores["adapter"][name]),
        )
    return table
