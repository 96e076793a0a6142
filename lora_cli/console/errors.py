"""Errors on the terminal: each problem with its place, its line and what to do."""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lora_cli.errors import LoraCliError, Problem

MOST_SHOWN = 50


def show_error(error: LoraCliError) -> None:
    """Print every problem of `error` on standard error."""
    console = Console(stderr=True, highlight=False)
    count = len(error.problems)
    suffix = f": {count} problems" if count > 1 else ""
    _print(console, Text(f"{error.title}{suffix}", style="bold red"))
    for problem in error.problems[:MOST_SHOWN]:
        _show_problem(console, problem)
    if count > MOST_SHOWN:
        _print(console, Text(f"… and {count - MOST_SHOWN} more", style="dim"))


def _show_problem(console: Console, problem: Problem) -> None:
    line = Text()
    if problem.where.position:
        line.append(f"{problem.where.position}: ", style="bold")
    line.append(problem.message)
    _print(console, line)
    if excerpt := _excerpt(problem):
        _print(console, Text(excerpt, style="dim"))
    if problem.hint:
        _print(console, Text(f"    → {problem.hint}", style="cyan"))


def _excerpt(problem: Problem) -> str:
    """Return the line that is meant, a mark under the column; nothing if it cannot be shown."""
    where = problem.where
    if not where.line:
        return ""
    try:
        lines = Path(where.file).read_text("utf-8-sig").splitlines()
        line = lines[where.line - 1]
    except (OSError, UnicodeDecodeError, IndexError):
        return ""
    if len(line) > 120 or not line.isprintable():
        return ""
    number = f"{where.line:>5}"
    mark = " " * (where.column - 1) + "^" if where.column else ""
    return f"{number} │ {line}\n      │ {mark}" if mark else f"{number} │ {line}"


def show_unexpected(error: Exception) -> None:
    """Print a short panel for an error nobody foresaw, and keep its traceback in a log file."""
    console = Console(stderr=True, highlight=False)
    with tempfile.NamedTemporaryFile(
        "w", prefix="loracli-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.writelines(traceback.format_exception(error))
    _print(console, Text("unexpected error: this is a defect of loracli", style="bold red"))
    _print(console, Text(f"{type(error).__name__}: {error}"))
    _print(console, Text(f"    → the traceback is in {log.name}; please report it", style="cyan"))


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)
