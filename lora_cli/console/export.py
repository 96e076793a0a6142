"""`loracli export` on the terminal: progress, what was written, which servers take it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lora_cli.console.quiet import quiet_bars, quiet_libraries
from lora_cli.console.units import gigabytes
from lora_cli.merge.export import ExportResult, export_lora
from lora_cli.merge.truncate import Limit
from lora_cli.words import counted


def export(
    adapter: Path, output: Path, *, rank: int | None, error: float | None, as_json: bool
) -> ExportResult:
    """Export an adapter and print what came of it, for a person or a program."""
    quiet_libraries()
    quiet_bars()
    with Console(stderr=True).status("reading the adapter") as status:

        def report(done: int, total: int) -> None:
            status.update(f"change of weights: module {done} of {total}")

        result = export_lora(adapter, output, Limit(rank, error), report=report)
    if as_json:
        print(json.dumps(asdict(result), indent=2))  # noqa: T201  # rich would wrap long lines
    else:
        show_export(result, Console(highlight=False))
    return result


def show_export(result: ExportResult, console: Console) -> None:
    """Print what an export came to."""
    written = f"{gigabytes(result.bytes_written)} in {result.seconds:.1f} s"
    modules = counted(len(result.modules), "module")
    lines = [
        f"{result.method} on {modules} → LoRA of rank {result.rank}, {written}",
        f"error     {_error(result)}",
        f"base      {result.base}",
        f"exported  {result.output}",
        *(f"note      {note}" for note in result.notes),
        "",
        *(f"{each.name:<10}{each.use or 'no: ' + each.why_not}" for each in result.servers),
        "",
        "what vLLM and llama.cpp take was read in their sources; neither was run",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _error(result: ExportResult) -> str:
    if result.exact:
        return "none: the same change of weights"
    ranks = [fit.rank for fit in result.modules.values()]
    worst = max(result.modules, key=lambda module: result.modules[module].error)
    return (
        f"{result.error:.2%} of the change over all modules, at most {result.largest_error:.2%} "
        f"(`{worst}`); ranks {min(ranks)} to {max(ranks)}"
    )
