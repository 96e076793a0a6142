"""Errors on the terminal: each problem with its place, its line and what to do."""

from __future__ import annotations

import json
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from lora_cli.errors import LoraCliError, Problem, Where

MOST_SHOWN = 50
EXCERPT_WIDTH = 100


def show_error(error: LoraCliError) -> None:
    """Print every problem of `error` on standard error."""
    console = Console(stderr=True, highlight=False)
    count = _count(error.problems)
    suffix = f": {count:,} problems" if count > 1 else ""
    _print(console, Text(f"{error.title}{suffix}", style="bold red"))
    for problem in error.problems[:MOST_SHOWN]:
        _show_problem(console, problem)
    if rest := _count(error.problems[MOST_SHOWN:]):
        _print(console, Text(f"… and {rest:,} more", style="dim"))


def error_as_json(error: LoraCliError, exit_code: int) -> str:
    """Return an error for a program: its title, its exit code, and all its problems."""
    problems = [
        {**place, **problem}
        for problem in map(asdict, error.problems)
        for place in [problem.pop("where")]
    ]
    told = {"error": error.title, "exit_code": exit_code, "problems": problems}
    return json.dumps(told, indent=2)


def _count(problems: Sequence[Problem]) -> int:
    return sum(problem.count for problem in problems)


def _show_problem(console: Console, problem: Problem) -> None:
    line = Text()
    if problem.where.position:
        line.append(f"{problem.where.position}: ", style="bold")
    line.append(problem.message)
    _print(console, line)
    if excerpt := _excerpt(problem.where):
        _print(console, Text(excerpt, style="dim"))
    if problem.hint:
        _print(console, Text(f"    → {problem.hint}", style="cyan"))


def _excerpt(where: Where) -> str:
    """Return the line that is meant, a mark under the column; nothing if it cannot be shown."""
    line = _line(where)
    if line is None:
        return ""
    start = max(0, where.column - EXCERPT_WIDTH * 3 // 4) if len(line) > EXCERPT_WIDTH else 0
    shown = "".join(map(_visible, line[start : start + EXCERPT_WIDTH]))
    number = f"{where.line:>5} │ "
    if not where.column:
        return number + shown
    before = cell_len(shown[: where.column - 1 - start])
    return f"{number}{shown}\n      │ {' ' * before}^"


def _line(where: Where) -> str | None:
    """Return the line of a file, or None: a pipe cannot be read twice, a flag has no lines."""
    path = Path(where.file)
    try:
        if not where.line or not path.is_file():
            return None
        with path.open(encoding="utf-8-sig") as file:
            line = next(islice(file, where.line - 1, None), None)
    except (OSError, ValueError):  # not readable, or not text
        return None
    return line.rstrip("\n") if line else None


def _visible(character: str) -> str:
    """Return a character that takes its place on the line, whatever it was."""
    if character == "\t":
        return "⇥"
    return character if character.isprintable() else "·"


def show_unexpected(error: Exception) -> None:
    """Print a short panel for an error nobody foresaw, and keep its traceback in a log file."""
    console = Console(stderr=True, highlight=False)
    lines = traceback.format_exception(error)
    _print(console, Text("unexpected error: this is a defect of loracli", style="bold red"))
    _print(console, Text(f"{type(error).__name__}: {error}"))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="loracli-", suffix=".log", delete=False, encoding="utf-8", errors="replace"
        ) as log:
            log.writelines(lines)
    except OSError:  # no room for a log: the terminal has it then
        _print(console, Text("".join(lines), style="dim"))
        return
    _print(console, Text(f"    → the traceback is in {log.name}; please report it", style="cyan"))


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)
